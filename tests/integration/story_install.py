"""An installed quern: programs run from the prefix, and a program builds against it by pkg-config and by find_package."""

import os
import subprocess
import textwrap

import stage

CLIENT = """
    #include <quern/client.h>
    #include <stdio.h>
    int main(void)
    {
        struct quern_client *client = NULL;
        struct quern_call call = QUERN_CALL_INIT;
        struct quern_future *future = NULL;
        struct quern_outcome *outcome = NULL;
        enum quern_err err = quern_client_open(NULL, &client);
        if (err != QUERN_OK) {
            fprintf(stderr, "%s: %s\\n", quern_err_word(err), quern_last_error());
            return 1;
        }
        call.function = "square";
        call.args = "\\x91\\x07";
        call.args_size = 2;
        if (quern_submit(client, &call, &future, NULL) != QUERN_OK) return 2;
        if (quern_future_wait(future, 30000, &outcome) != QUERN_OK) return 3;
        if (outcome->state != QUERN_STATE_DONE || outcome->result_size != 1) return 4;
        printf("%d\\n", *(const unsigned char *)outcome->result);
        quern_outcome_release(&outcome);
        quern_future_release(&future);
        return quern_client_close(&client, 0) == QUERN_OK ? 0 : 5;
    }
"""

POOL = """
    #include <quern/pool.h>
    #include <stdio.h>
    static enum quern_err twice(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
    {
        int64_t x;
        if (quern_read_i64(args, &x) != QUERN_OK) {
            return quern_task_fail_args(task, args, "twice takes one integer");
        }
        quern_write_i64(result, 2 * x);
        return QUERN_OK;
    }
    static const struct quern_function functions[] = {{"twice", twice}, {NULL, NULL}};
    static const struct quern_module module = {.size = sizeof(module), .functions = functions};
    int main(int argc, char **argv)
    {
        struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
        struct quern_pool *pool = NULL;
        struct quern_call call = QUERN_CALL_INIT;
        struct quern_future *future = NULL;
        struct quern_outcome *outcome = NULL;
        quern_pool_main(argc, argv, &module);
        if (quern_pool_open(&options, &pool) != QUERN_OK) {
            fprintf(stderr, "%s\\n", quern_last_error());
            return 1;
        }
        call.function = "twice";
        call.args = "\\x91\\x15";
        call.args_size = 2;
        if (quern_submit(quern_pool_client(pool), &call, &future, NULL) != QUERN_OK) return 2;
        if (quern_future_wait(future, 30000, &outcome) != QUERN_OK) return 3;
        if (outcome->state != QUERN_STATE_DONE || outcome->result_size != 1) return 4;
        printf("%d\\n", *(const unsigned char *)outcome->result);
        quern_outcome_release(&outcome);
        quern_future_release(&future);
        return quern_pool_close(&pool, 0) == QUERN_OK ? 0 : 5;
    }
"""

WORKER = """
    #include <quern/worker.h>
    static enum quern_err twice(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
    {
        int64_t x;
        if (quern_read_i64(args, &x) != QUERN_OK) {
            return quern_task_fail_args(task, args, "twice takes one integer");
        }
        quern_write_i64(result, 2 * x);
        return QUERN_OK;
    }
    static const struct quern_function functions[] = {{"twice", twice}, {NULL, NULL}};
    static const struct quern_module module = {.size = sizeof(module), .functions = functions};
    int main(int argc, char **argv)
    {
        return quern_worker_main(argc, argv, &module);
    }
"""

CMAKE = """
    cmake_minimum_required(VERSION 3.25)
    project(user LANGUAGES C)
    find_package(quern 0.1 REQUIRED)
    add_executable(client client.c)
    target_link_libraries(client PRIVATE quern::quern)
    add_executable(twice twice.c)
    target_link_libraries(twice PRIVATE quern::quern)
"""


class Installed(stage.Story):
    def setUp(self):
        super().setUp()
        self.prefix = self.path("prefix")
        self.run_tool("cmake", "--install", stage.BUILD, "--prefix", self.prefix)
        self.libdir = next(folder for folder, _, files in os.walk(self.prefix) if "libquern.so" in files)
        for name, text in (("client.c", CLIENT), ("twice.c", WORKER), ("pool.c", POOL), ("CMakeLists.txt", CMAKE)):
            with open(self.path(name), "w", encoding="utf-8") as file:
                file.write(textwrap.dedent(text))
        self.env["LD_LIBRARY_PATH"] = self.libdir

    def run_tool(self, *argv, **env):
        done = subprocess.run(argv, capture_output=True, text=True, env={**self.env, **env}, cwd=self.directory)
        self.assertEqual(done.returncode, 0, f"{argv}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start_installed(self, name, *args):
        program = stage.Program(name, [os.path.join(self.prefix, "bin", name), *map(str, args)], self.env,
                                self.directory)
        self.programs.append(program)
        return program

    def check_programs(self, client, worker):
        self.start_installed("quern-broker").wait_out("ready ")
        self.start_installed("quern-worker", "--module", os.path.join(self.libdir, "quern", "examples.so"))
        self.assertEqual(self.run_tool(client), "49\n")
        twice = stage.Program("twice", [worker, "--slots", "1"], self.env, self.directory)
        self.programs.append(twice)
        self.assertEqual(self.run_tool(os.path.join(self.prefix, "bin", "quern"), "submit", "twice", "21"), "42\n")

    def test_a_program_builds_by_pkg_config_and_runs(self):
        search = os.path.join(self.libdir, "pkgconfig")
        for name in ("client", "twice"):
            flags = self.run_tool("pkg-config", "--cflags", "--libs", "quern", PKG_CONFIG_PATH=search).split()
            self.run_tool("cc", "-Wall", "-Wextra", "-Werror", "-std=c11", f"{name}.c", "-o", name, *flags)
        self.check_programs(self.path("client"), self.path("twice"))

    def test_a_program_with_a_pool_needs_to_be_told_nothing(self):
        """Neither the library's place nor the programs' is known to anybody but the library; shared and static."""
        search = os.path.join(self.libdir, "pkgconfig")
        shared = self.run_tool("pkg-config", "--cflags", "--libs", "quern", PKG_CONFIG_PATH=search).split()
        self.run_tool("cc", "-Wall", "-Wextra", "-Werror", "pool.c", "-o", "pool", *shared)
        self.assertEqual(self.run_tool(self.path("pool")), "42\n")
        static = self.run_tool("pkg-config", "--static", "--cflags", "--libs", "quern", PKG_CONFIG_PATH=search).split()
        static = [os.path.join(self.libdir, "libquern.a") if flag == "-lquern" else flag for flag in static]
        self.run_tool("cc", "-Wall", "-Werror", "pool.c", "-o", "pool", *static)
        self.env.pop("LD_LIBRARY_PATH")
        self.assertEqual(self.run_tool(self.path("pool"), PATH=os.path.join(self.prefix, "bin")), "42\n")

    def test_a_program_builds_by_find_package_and_runs(self):
        self.run_tool("cmake", "-S", ".", "-B", "out", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_tool("cmake", "--build", "out")
        self.check_programs(self.path("out", "client"), self.path("out", "twice"))

    def test_a_program_links_statically(self):
        search = os.path.join(self.libdir, "pkgconfig")
        flags = self.run_tool("pkg-config", "--static", "--cflags", "--libs", "quern", PKG_CONFIG_PATH=search).split()
        flags = [os.path.join(self.libdir, "libquern.a") if flag == "-lquern" else flag for flag in flags]
        self.run_tool("cc", "-Wall", "-Werror", "client.c", "-o", "client", *flags)
        self.env.pop("LD_LIBRARY_PATH")
        self.start_installed("quern-broker").wait_out("ready ")
        self.start_installed("quern-worker", "--module", os.path.join(self.libdir, "quern", "examples.so"))
        self.assertEqual(self.run_tool(self.path("client")), "49\n")

    def test_the_directory_of_modules_is_told(self):
        search = os.path.join(self.libdir, "pkgconfig")
        folder = self.run_tool("pkg-config", "--variable=moduledir", "quern", PKG_CONFIG_PATH=search).strip()
        self.assertTrue(os.path.samefile(folder, os.path.join(self.libdir, "quern")))
        self.assertIn("examples.so", os.listdir(folder))

    def test_only_what_the_headers_declare_is_exported(self):
        names = [line.split()[-1].split("@")[0] for line in
                 self.run_tool("nm", "-D", "--defined-only", os.path.join(self.libdir, "libquern.so")).splitlines()]
        self.assertEqual([name for name in names if not name.startswith("quern_")], ["QUERN_0"])
        self.assertIn("quern_submit", names)

    def test_only_the_broker_stands_before_the_c_library(self):
        """The link's accept4 and recv are for its connections, not for those of users' programs and functions."""
        def guards(*names):
            lines = self.run_tool("nm", "--defined-only", *map(str, names)).splitlines()
            return sorted({line.split()[-1] for line in lines if line.split()[-1:] in (["accept4"], ["recv"])})

        programs = {name: guards("-D", os.path.join(self.prefix, "bin", name))
                    for name in ("quern-broker", "quern-worker", "quern")}
        self.assertEqual(programs, {"quern-broker": ["accept4", "recv"], "quern-worker": [], "quern": []})
        self.assertEqual(guards(os.path.join(self.libdir, "libquern.a")), [])

    def test_headers_stand_alone_also_in_cxx(self):
        for header in ("client.h", "pool.h", "worker.h", "value.h", "err.h"):
            for compiler, language, standard in (("cc", "c", "-std=c11"), ("c++", "c++", "-std=c++17")):
                with open(self.path("alone.c"), "w", encoding="utf-8") as file:
                    file.write(f"#include <quern/{header}>\nint main(void) {{ return 0; }}\n")
                self.run_tool(compiler, "-x", language, standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                              "-fsyntax-only", f"-I{self.prefix}/include", "alone.c")


if __name__ == "__main__":
    stage.main()

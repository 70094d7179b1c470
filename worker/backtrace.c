/*
 * backtrace.c owns the text of a backtrace, and finding symbols for it.
 * It must not know signals or slots. What it reads may be anything.
 * Start reading at text_make.
 *
 * Symbols and lines come from elfutils' libdw. It is loaded when it is needed, in a process that does nothing else:
 * a program that links libquern does not depend on it, and where it is missing there are offsets.
 */
#include "worker/backtrace.h"

#include "common/limits.h"

#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBDW "libdw.so.1"
/* No debugging information is so large, nor any disk so slow. */
#define SYMBOLS_SECONDS_MAX 10u
#define SYMBOL_SIZE_MAX 200

/* What is being read: a list, line by line. */
struct frame {
    unsigned index;
    uint64_t address; /* that of the call, not of the way back */
    uint64_t bias;
    struct bytes path; /* of the module; none: the program itself */
};

/* Appends what is known of a frame besides module and offset, and a blank; or nothing. */
struct finder {
    void *self;
    void (*find)(void *self, const struct frame *frame, struct buf *out);
};

/* ---- text ---- */

static struct bytes line_next(struct bytes *text)
{
    const uint8_t *end = text->n == 0 ? NULL : memchr(text->p, '\n', text->n);
    size_t n = end == NULL ? text->n : (size_t)(end - text->p);
    struct bytes line = bytes_of(text->p, n);
    size_t step = n < text->n ? n + 1 : n;
    *text = bytes_of(text->p + step, text->n - step);
    return line;
}

/* Hexadecimal digits from the front of text. */
static uint64_t number_next(struct bytes *text)
{
    uint64_t number = 0;
    size_t i = 0;
    for (; i < text->n && i < 16; i++) {
        const char *digit = memchr("0123456789abcdef", text->p[i], 16);
        if (digit == NULL) {
            break;
        }
        number = number << 4 | (uint64_t)(digit - "0123456789abcdef");
    }
    *text = bytes_of(text->p + i, text->n - i);
    return number;
}

static void put_clean(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        buf_put_u8(out, text.p[i] > 0x20 && text.p[i] < 0x7f ? text.p[i] : '?');
    }
}

static struct bytes base_name(struct bytes path)
{
    const uint8_t *slash = path.n == 0 ? NULL : memrchr(path.p, '/', path.n);
    size_t from = slash == NULL ? 0 : (size_t)(slash - path.p) + 1;
    return bytes_of(path.p + from, path.n - from);
}

static void put_frame(const struct frame *frame, const struct finder *finder, struct buf *out)
{
    buf_printf(out, "#%u ", frame->index);
    if (finder != NULL) {
        finder->find(finder->self, frame, out);
    }
    put_clean(out, frame->path.n > 0 ? base_name(frame->path) : bytes_text(program_invocation_short_name));
    buf_printf(out, "+0x%" PRIx64 "\n", frame->address - frame->bias);
}

/* One line of the list. */
static void text_add(struct bytes line, struct frame *frame, const struct finder *finder, struct buf *out)
{
    if (line.n < 3) {
        return;
    }
    char word = (char)line.p[0];
    struct bytes rest = bytes_of(line.p + 2, line.n - 2);
    uint64_t number = number_next(&rest);
    switch (word) {
    case BACKTRACE_ADDRESS:
        buf_printf(out, "no access to address 0x%" PRIx64 "\n", number);
        break;
    case BACKTRACE_MODULE:
        frame->bias = number;
        frame->path = rest.n > 0 && rest.p[0] == ' ' ? bytes_of(rest.p + 1, rest.n - 1) : (struct bytes){NULL, 0};
        break;
    case BACKTRACE_EXACT:
    case BACKTRACE_FRAME:
        frame->address = number - (word == BACKTRACE_FRAME);
        put_frame(frame, finder, out);
        frame->index++;
        break;
    case BACKTRACE_SKIPPED:
        buf_printf(out, "... %" PRIu64 " frames\n", number);
        frame->index += (unsigned)number;
        break;
    default:
        break;
    }
}

/* written: told after each line; NULL: nobody. */
static void text_make(struct bytes list, const struct finder *finder, struct buf *out, void (*written)(struct buf *))
{
    struct frame frame = {.path = bytes_text("?")};
    while (list.n > 0) {
        text_add(line_next(&list), &frame, finder, out);
        if (written != NULL) {
            written(out);
        }
    }
}

void backtrace_put(struct bytes list, struct buf *out)
{
    text_make(list, NULL, out, NULL);
}

/* ---- the place ---- */

static bool is_of_system(struct bytes module)
{
    static const char *const names[] = {"libc.so", "libc-", "ld-linux", "libpthread", "libasan", "libubsan", "libtsan"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t n = strlen(names[i]);
        if (module.n >= n && memcmp(module.p, names[i], n) == 0) {
            return true;
        }
    }
    return false;
}

void backtrace_place(struct bytes text, struct buf *out)
{
    while (text.n > 0) {
        struct bytes line = line_next(&text);
        const uint8_t *blank = line.n == 0 || line.p[0] != '#' ? NULL : memchr(line.p, ' ', line.n);
        const uint8_t *last = blank == NULL ? NULL : memrchr(line.p, ' ', line.n);
        if (last == NULL) {
            continue;
        }
        const uint8_t *end = line.p + line.n;
        struct bytes module = bytes_of(last + 1, (size_t)(end - last - 1));
        if (!is_of_system(module) && module.n > 0 && module.p[0] != '?') {
            const uint8_t *from = blank + 1;
            buf_put(out, from, (size_t)((last > from ? last : end) - from));
            return;
        }
    }
}

/* ---- symbols ---- */

/* The calls of libdw that are needed, by name. */
#define LIBDW_CALLS(X)                                                                                                 \
    X(dwfl_begin)                                                                                                      \
    X(dwfl_report_begin)                                                                                               \
    X(dwfl_report_elf)                                                                                                 \
    X(dwfl_report_end)                                                                                                 \
    X(dwfl_addrmodule)                                                                                                 \
    X(dwfl_module_addrinfo)                                                                                            \
    X(dwfl_module_getsrc)                                                                                              \
    X(dwfl_lineinfo)                                                                                                   \
    X(dwfl_build_id_find_elf)                                                                                          \
    X(dwfl_standard_find_debuginfo)                                                                                    \
    X(dwfl_offline_section_address)

struct symbols {
#define X(name) __typeof__(&name) name;
    LIBDW_CALLS(X)
#undef X
    Dwfl_Callbacks callbacks;
    char *debuginfo_path;
    Dwfl *dwfl;
};

static bool symbols_load(struct symbols *symbols)
{
    void *library = dlopen(LIBDW, RTLD_NOW | RTLD_LOCAL);
    bool has_all = library != NULL;
#define X(name)                                                                                                        \
    if (has_all) {                                                                                                     \
        void *symbol = dlsym(library, #name);                                                                          \
        has_all = symbol != NULL;                                                                                      \
        memcpy(&symbols->name, &symbol, sizeof(symbol));                                                               \
    }
    LIBDW_CALLS(X)
#undef X
    return has_all;
}

static void report_module(struct symbols *symbols, struct bytes path, uint64_t bias)
{
    char *name = path.n > 0 ? bytes_dup_text(path) : NULL;
    (void)symbols->dwfl_report_elf(symbols->dwfl, name != NULL ? name : "", name != NULL ? name : "/proc/self/exe", -1,
                                   bias, true);
    free(name);
}

/* Every module of the list, so that addresses have one. */
static void report_modules(struct symbols *symbols, struct bytes list)
{
    symbols->dwfl_report_begin(symbols->dwfl);
    while (list.n > 0) {
        struct bytes line = line_next(&list);
        if (line.n < 3 || line.p[0] != BACKTRACE_MODULE) {
            continue;
        }
        struct bytes path = bytes_of(line.p + 2, line.n - 2);
        uint64_t bias = number_next(&path);
        path = path.n > 0 ? bytes_of(path.p + 1, path.n - 1) : path;
        if (!bytes_is(path, "?")) {
            report_module(symbols, path, bias);
        }
    }
    (void)symbols->dwfl_report_end(symbols->dwfl, NULL, NULL);
}

static bool symbols_open(struct symbols *symbols, struct bytes list)
{
    if (!symbols_load(symbols)) {
        return false;
    }
    symbols->callbacks = (Dwfl_Callbacks){.find_elf = symbols->dwfl_build_id_find_elf,
                                          .find_debuginfo = symbols->dwfl_standard_find_debuginfo,
                                          .section_address = symbols->dwfl_offline_section_address,
                                          .debuginfo_path = &symbols->debuginfo_path};
    symbols->dwfl = symbols->dwfl_begin(&symbols->callbacks);
    if (symbols->dwfl != NULL) {
        report_modules(symbols, list);
    }
    return symbols->dwfl != NULL;
}

/* Without what a compiler appends to copies of a function (".constprop.0"). */
static size_t name_size(const char *name)
{
    size_t size = strcspn(name + (name[0] == '.'), ".") + (name[0] == '.');
    return size < SYMBOL_SIZE_MAX ? size : SYMBOL_SIZE_MAX;
}

static void find_symbol(void *self, const struct frame *frame, struct buf *out)
{
    const struct symbols *symbols = self;
    Dwfl_Module *module = symbols->dwfl_addrmodule(symbols->dwfl, frame->address);
    GElf_Off offset = 0;
    GElf_Sym symbol;
    if (module == NULL) {
        return;
    }
    const char *name = symbols->dwfl_module_addrinfo(module, frame->address, &offset, &symbol, NULL, NULL, NULL);
    if (name != NULL) {
        put_clean(out, bytes_of(name, name_size(name)));
        buf_printf(out, "+0x%" PRIx64 " ", (uint64_t)offset);
    }
    int number = 0;
    Dwfl_Line *line = symbols->dwfl_module_getsrc(module, frame->address);
    const char *file = line == NULL ? NULL : symbols->dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
    if (file != NULL) {
        buf_put_u8(out, '(');
        put_clean(out, base_name(bytes_of(file, strnlen(file, BACKTRACE_PATH_SIZE_MAX))));
        buf_printf(out, ":%d) ", number);
    }
}

static void write_out(struct buf *out)
{
    (void)!write(STDOUT_FILENO, out->p, out->n);
    out->n = 0;
}

int backtrace_main(int argc, char **argv)
{
    static struct symbols symbols;
    struct finder finder = {.self = &symbols, .find = find_symbol};
    struct buf out = {0};
    if (argc < 3) {
        return 2;
    }
    struct bytes list = bytes_text(argv[2]);
    alarm(SYMBOLS_SECONDS_MAX);
    (void)unsetenv("DEBUGINFOD_URLS"); /* it would ask the network */
    if (!symbols_open(&symbols, list)) {
        _exit(1);
    }
    text_make(list, &finder, &out, write_out);
    _exit(0);
}

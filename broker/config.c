/*
 * config.c: owns the names that a configuration file may hold and the bounds of their values.
 * Must not know: the command line, the broker. czmq is used for its reader alone.
 * Start reading at config_load.
 */
/* clang-format off: czmq.h brings in syslog.h, whose LOG_ERR... would stand in place of our levels' names. */
#include <czmq.h>
#undef LOG_INFO
#undef LOG_DEBUG
/* clang-format on */

#include "broker/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define CONFIG_SIZE_MAX (64u * 1024u)

void config_init(struct config *config)
{
    *config = (struct config){.log_level = LOG_INFO, .limits = limits_default()};
}

void config_fini(struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        free(config->listen[i]);
    }
    free(config->db);
    free(config->flight_recorder);
    *config = (struct config){0};
}

enum quern_err config_add_listen(struct config *config, const char *url)
{
    if (config->listen_count == LISTEN_COUNT_MAX) {
        return QUERN_FULL;
    }
    if (strlen(url) > URL_SIZE_MAX) {
        return QUERN_TOO_BIG;
    }
    config->listen[config->listen_count++] = xstrdup(url);
    return QUERN_OK;
}

__attribute__((format(printf, 2, 3))) static enum quern_err refuse(char **why_out, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (vasprintf(why_out, format, args) < 0) {
        *why_out = NULL;
    }
    va_end(args);
    return QUERN_INVALID;
}

/* Decimal digits only; false for anything else and beyond LIMIT_VALUE_MAX (arithmetic on two of them never overflows).
 */
static bool parse_value(const char *text, uint64_t *value_out)
{
    uint64_t value = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > LIMIT_VALUE_MAX) {
            return false;
        }
    }
    *value_out = value;
    return true;
}

static enum quern_err take_broker(struct config *config, const char *path, const char *name, const char *value,
                                  char **why_out)
{
    if (strcmp(name, "listen") == 0) {
        if (config_add_listen(config, value) != QUERN_OK) {
            return refuse(why_out, "%s: broker/listen: at most %u listeners of at most %u bytes each", path,
                          LISTEN_COUNT_MAX, URL_SIZE_MAX);
        }
        return QUERN_OK;
    }
    if (strcmp(name, "db") == 0) {
        free(config->db);
        config->db = xstrdup(value);
        return QUERN_OK;
    }
    if (strcmp(name, "flight-recorder") == 0) {
        free(config->flight_recorder);
        config->flight_recorder = xstrdup(value);
        return QUERN_OK;
    }
    if (strcmp(name, "log-level") == 0) {
        if (!log_level_parse(value, &config->log_level)) {
            return refuse(why_out, "%s: broker/log-level is \"%s\"; it may be error, warn, info or debug", path, value);
        }
        return QUERN_OK;
    }
    return refuse(why_out,
                  "%s: there is no setting broker/%s; there are listen, db, log-level and "
                  "flight-recorder",
                  path, name);
}

static enum quern_err take_limit(struct config *config, const char *path, const char *name, const char *text,
                                 char **why_out)
{
    uint64_t value;

    if (!parse_value(text, &value)) {
        return refuse(why_out, "%s: limits/%s is \"%s\"; it must be a whole number from 0 to %llu", path, name, text,
                      (unsigned long long)LIMIT_VALUE_MAX);
    }
    if (!limits_set(&config->limits, name, value)) {
        return refuse(why_out, "%s: there is no limit %s; `quern status` lists them", path, name);
    }
    return QUERN_OK;
}

typedef enum quern_err take_setting(struct config *config, const char *path, const char *name, const char *value,
                                    char **why_out);

static enum quern_err take_section(struct config *config, const char *path, zconfig_t *section, char **why_out)
{
    take_setting *take = NULL;
    const char *section_name = zconfig_name(section);

    if (strcmp(section_name, "broker") == 0) {
        take = take_broker;
    } else if (strcmp(section_name, "limits") == 0) {
        take = take_limit;
    } else {
        return refuse(why_out, "%s: there is no section %s; there are broker and limits", path, section_name);
    }
    for (zconfig_t *item = zconfig_child(section); item != NULL; item = zconfig_next(item)) {
        enum quern_err err;

        if (zconfig_child(item) != NULL) {
            return refuse(why_out, "%s: %s/%s is a setting and holds no others", path, section_name,
                          zconfig_name(item));
        }
        err = take(config, path, zconfig_name(item), zconfig_value(item), why_out);
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

/* One line of ZPL as it may stand here: nothing, a comment, or [indent] name [= value]. czmq would take a superset, and
 * print its remarks on stdout, where `ready` is waited for. */
static bool is_line(const char *p, const char *end)
{
    const char *begin = p;
    const char *name = NULL;

    while (p < end && *p == ' ') {
        p++;
    }
    if (p == end || *p == '#') {
        return true;
    }
    name = p;
    while (p < end && (isalnum((unsigned char)*p) || *p == '_' || *p == '-')) {
        p++;
    }
    if (p == name || (name - begin) % 4 != 0) {
        return false;
    }
    while (p < end && *p == ' ') {
        p++;
    }
    if (p == end) {
        return true;
    }
    return *p == '=' && memchr(p, '"', (size_t)(end - p)) == NULL && memchr(p, '\'', (size_t)(end - p)) == NULL;
}

/* 0, or the number of the first line that is none. */
static unsigned wrong_line(const char *text, size_t n)
{
    const char *p = text;
    const char *end = text + n;

    for (unsigned number = 1; p < end; number++) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));

        if (line_end == NULL) {
            line_end = end;
        }
        for (const char *byte = p; byte < line_end; byte++) {
            if ((unsigned char)*byte < ' ' || *byte == 0x7f) {
                return number;
            }
        }
        if (!is_line(p, line_end)) {
            return number;
        }
        p = line_end + 1;
    }
    return 0;
}

/* The whole file, or NULL with errno set (EFBIG beyond CONFIG_SIZE_MAX). */
static zchunk_t *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    zchunk_t *chunk = NULL;
    char *text = NULL;
    size_t n = 0;
    int error = 0;

    if (file == NULL) {
        return NULL;
    }
    text = xmalloc(CONFIG_SIZE_MAX + 1);
    n = fread(text, 1, CONFIG_SIZE_MAX + 1, file);
    error = ferror(file) != 0 ? errno : n > CONFIG_SIZE_MAX ? EFBIG : 0;
    if (error == 0) {
        chunk = zchunk_new(text, n);
        CHECK(chunk != NULL);
    }
    free(text);
    (void)fclose(file);
    errno = error;
    return chunk;
}

enum quern_err config_load(struct config *config, const char *path, char **why_out)
{
    enum quern_err err = QUERN_OK;
    zchunk_t *chunk = read_file(path);
    zconfig_t *root = NULL;
    unsigned wrong = 0;

    *why_out = NULL;
    if (chunk == NULL) {
        (void)refuse(why_out, "cannot read the configuration file %s: %s", path, strerror(errno));
        return QUERN_IO;
    }
    wrong = wrong_line((const char *)zchunk_data(chunk), zchunk_size(chunk));
    if (wrong > 0) {
        zchunk_destroy(&chunk);
        return refuse(why_out, "%s: line %u is not ZPL: sections at the margin, settings `name = value` indented by 4",
                      path, wrong);
    }
    /* czmq would take SIGINT and SIGTERM for itself if anything of it initialised the library. */
    (void)setenv("ZSYS_SIGHANDLER", "false", 1);
    root = zconfig_chunk_load(chunk);
    zchunk_destroy(&chunk);
    if (root == NULL) {
        return refuse(why_out, "%s is not a ZPL file", path);
    }
    for (zconfig_t *section = zconfig_child(root); section != NULL && err == QUERN_OK;
         section = zconfig_next(section)) {
        err = take_section(config, path, section, why_out);
    }
    zconfig_destroy(&root);
    return err;
}

enum quern_err config_check(const struct config *config, char **why_out)
{
    const struct limits *limits = &config->limits;

    *why_out = NULL;
    if (limits->heartbeat_ms < 10 || limits->dead_ms < 2 * limits->heartbeat_ms) {
        return refuse(why_out, "limits: heartbeat_ms must be at least 10, and dead_ms at least twice heartbeat_ms");
    }
    if (limits->lease_ms < 2 * limits->heartbeat_ms) {
        return refuse(why_out,
                      "limits: lease_ms must be at least twice heartbeat_ms, or busy workers lose their tasks");
    }
    if (limits->client_window_count == 0 || limits->client_window_bytes == 0 || limits->batch_row_count_max == 0 ||
        limits->batch_bytes_max == 0 || limits->retention_row_count == 0 || limits->batch_submit_count_max == 0 ||
        limits->batch_submit_bytes_max == 0) {
        return refuse(why_out, "limits: client_window_count, client_window_bytes, batch_row_count_max, "
                               "batch_bytes_max, batch_submit_count_max, batch_submit_bytes_max and "
                               "retention_row_count must not be 0");
    }
    return QUERN_OK;
}

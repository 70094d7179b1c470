/*
 * Owns the reading of options. Must not know what they mean. Start at arguments_parse.
 */
#include "client/cli/arguments.h"

#include "client/cli/help.h"
#include "common/limits.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTION_NAME_SIZE_MAX 64u
#define FRACTION_DIGITS 3 /* of a second: milliseconds */

int usage_error(const struct arguments *arguments, const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (arguments->command != NULL) {
        say("%s; see `quern %s --help`", text, arguments->command);
    } else {
        say("%s; see `quern --help`", text);
    }
    return STATUS_USAGE;
}

bool number_parse(const char *text, int64_t min, int64_t max, int64_t *value_out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool is_plain = *text == '-' || (*text >= '0' && *text <= '9');
    if (errno != 0 || end == text || *end != '\0' || !is_plain || value < min || value > max) {
        return false;
    }
    *value_out = value;
    return true;
}

/* The digits behind the point, as milliseconds; false if they say something finer. */
static bool fraction_parse(const char *digits, uint64_t *ms_out)
{
    uint64_t ms = 0;
    int count = 0;
    for (; *digits >= '0' && *digits <= '9'; digits++, count++) {
        if (count < FRACTION_DIGITS) {
            ms = ms * 10 + (uint64_t)(*digits - '0');
        } else if (*digits != '0') {
            return false;
        }
    }
    if (*digits != '\0' || count == 0) {
        return false;
    }
    for (; count < FRACTION_DIGITS; count++) {
        ms *= 10;
    }
    *ms_out = ms;
    return true;
}

bool seconds_parse(const char *text, uint64_t *ms_out)
{
    uint64_t seconds = 0;
    uint64_t ms = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        seconds = seconds * 10 + (uint64_t)(*p - '0');
        if (seconds > DURATION_MS_MAX / 1000) {
            return false;
        }
    }
    if (*p == '.' && !fraction_parse(p + 1, &ms)) {
        return false;
    }
    if ((*p != '\0' && *p != '.') || *text == '\0' || seconds * 1000 + ms > DURATION_MS_MAX) {
        return false;
    }
    *ms_out = seconds * 1000 + ms;
    return true;
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

static int option_set(const struct arguments *arguments, const struct option *option, const char *value)
{
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->to = true;
        return ARGUMENTS_GO_ON;
    case OPTION_TEXT:
        *(const char **)option->to = value;
        return ARGUMENTS_GO_ON;
    case OPTION_SECONDS:
        if (!seconds_parse(value, option->to)) {
            return usage_error(arguments, "--%s '%s': not a number of seconds such as 2 or 0.5 (at most a year)",
                               option->name, value);
        }
        return ARGUMENTS_GO_ON;
    case OPTION_NUMBER:
        if (!number_parse(value, option->min, option->max, option->to)) {
            return usage_error(arguments, "--%s '%s': not a whole number from %" PRId64 " to %" PRId64, option->name,
                               value, option->min, option->max);
        }
        return ARGUMENTS_GO_ON;
    case OPTION_CALL:
        return option->call(option->to, value) ? ARGUMENTS_GO_ON : STATUS_USAGE;
    }
    return STATUS_USAGE;
}

static const struct option *option_find(const struct option *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static bool connect_timeout_set(void *to, const char *value)
{
    uint64_t ms;
    if (!seconds_parse(value, &ms) || ms > INT_MAX) {
        say("--connect-timeout '%s': not a number of seconds such as 5 or 0.5; see `quern --help`", value);
        return false;
    }
    *(int *)to = (int)ms;
    return true;
}

static const struct option *global_find(const struct arguments *arguments, const char *name)
{
    static struct option global;
    struct cli *cli = arguments->cli;
    const struct option options[] = {
        {.name = "url", .kind = OPTION_TEXT, .to = &cli->url},
        {.name = "connect-timeout", .kind = OPTION_CALL, .to = &cli->connect_timeout_ms, .call = connect_timeout_set},
        {.name = "json", .kind = OPTION_FLAG, .to = &cli->json},
    };
    const struct option *found = option_find(options, sizeof options / sizeof options[0], name);
    if (found == NULL) {
        return NULL;
    }
    global = *found;
    return &global;
}

/* By -L. */
static const struct option *option_of_letter(const struct option *options, size_t count, const char *word)
{
    for (size_t i = 0; i < count && word[1] != '\0' && word[2] == '\0'; i++) {
        if (options[i].letter == word[1]) {
            return &options[i];
        }
    }
    return NULL;
}

/* Splits --NAME[=VALUE]; *value_out is NULL without a value. False if the name is too long to be one. */
static bool option_split(const char *word, char name[OPTION_NAME_SIZE_MAX], const char **value_out)
{
    const char *equals = strchr(word, '=');
    size_t size = equals != NULL ? (size_t)(equals - word) : strlen(word);
    *value_out = equals != NULL ? equals + 1 : NULL;
    if (size >= OPTION_NAME_SIZE_MAX) {
        return false;
    }
    memcpy(name, word, size);
    name[size] = '\0';
    return true;
}

/* The option at words[*at]; moves *at to its last word. */
static int option_take(struct arguments *arguments, const struct option *options, size_t count, size_t *at)
{
    const char *word = arguments->words[*at];
    char name[OPTION_NAME_SIZE_MAX];
    const char *value = NULL;
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        return help_print(arguments->command);
    }
    if (strcmp(word, "--version") == 0) {
        return help_version(arguments->cli->json);
    }
    const struct option *option = word[1] != '-' ? option_of_letter(options, count, word) : NULL;
    if (word[1] == '-' && option_split(word + 2, name, &value)) {
        option = option_find(options, count, name);
        option = option != NULL ? option : global_find(arguments, name);
    }
    if (option == NULL) {
        return usage_error(arguments, "%s: no such option%s", word,
                           arguments->command == NULL ? " before a command" : "");
    }
    bool takes_value = option->kind != OPTION_FLAG;
    if (!takes_value && value != NULL) {
        return usage_error(arguments, "--%s takes no value, but '%s' was given", name, value);
    }
    if (takes_value && value == NULL) {
        if (*at + 1 >= arguments->word_count) {
            return usage_error(arguments, "--%s wants a value behind it", option->name);
        }
        *at += 1;
        value = arguments->words[*at];
    }
    return option_set(arguments, option, value);
}

int arguments_parse(struct arguments *arguments, const struct option *options, size_t option_count)
{
    size_t kept = 0;
    size_t at = 0;
    for (; at < arguments->word_count; at++) {
        char *word = arguments->words[at];
        if (strcmp(word, "--") == 0) {
            arguments->has_behind = true;
            arguments->behind = arguments->words + at + 1;
            arguments->behind_count = arguments->word_count - at - 1;
            break;
        }
        if (is_option(word)) {
            int status = option_take(arguments, options, option_count, &at);
            if (status != ARGUMENTS_GO_ON) {
                return status;
            }
        } else {
            arguments->words[kept++] = word;
        }
    }
    arguments->word_count = kept;
    return ARGUMENTS_GO_ON;
}

int arguments_parse_global(struct arguments *arguments)
{
    size_t at = 0;
    for (; at < arguments->word_count && is_option(arguments->words[at]); at++) {
        int status = option_take(arguments, NULL, 0, &at);
        if (status != ARGUMENTS_GO_ON) {
            return status;
        }
    }
    arguments->words += at;
    arguments->word_count -= at;
    return ARGUMENTS_GO_ON;
}

bool arguments_expect(struct arguments *arguments, size_t min, size_t max, const char *what)
{
    /* The words kept and those behind `--` lie in the same array, in order: close the gap. */
    if (arguments->behind_count > 0) {
        memmove(arguments->words + arguments->word_count, arguments->behind,
                arguments->behind_count * sizeof arguments->words[0]);
        arguments->word_count += arguments->behind_count;
        arguments->behind_count = 0;
    }
    if (arguments->word_count < min) {
        (void)usage_error(arguments, "%s is missing", what);
        return false;
    }
    if (arguments->word_count > max) {
        (void)usage_error(arguments, "'%s' is one word too many", arguments->words[max]);
        return false;
    }
    return true;
}

int session_options_check(const char *session, uint64_t expire_ms, const struct arguments *arguments)
{
    if (expire_ms != 0 && session == NULL) {
        return usage_error(arguments,
                           "--expire without --session: a session without a name ends with this command; name "
                           "it, or take --expire away");
    }
    return ARGUMENTS_GO_ON;
}

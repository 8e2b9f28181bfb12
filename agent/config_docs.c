/* config_docs.c - the configuration table written down: --help, man page, Markdown, and the page /config. See config.h. */
#include <ctype.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/config_table.h"

#define COLUMNS     79
#define TEXT_COLUMN 27 /* "  PILLION_SAMPLE_INTERVAL" and two blanks */
#define TEXT_BYTES  512

/* Breaks `text` at its blanks into lines up to COLUMNS, each new one indented; `column` is where the first one stands. Back quotes,
 * which only Markdown knows, are left out. */
static void wrap(struct buf *out, const char *text, size_t column, size_t indent) {
    bool first = true;

    for (const char *word = text; *word != '\0';) {
        size_t len = strcspn(word, " "), quotes = 0;

        for (size_t i = 0; i < len; i++)
            quotes += word[i] == '`';
        if (!first && column + 1 + len - quotes > COLUMNS) {
            buf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            buf_putc(out, ' ');
            column++;
        }
        for (size_t i = 0; i < len; i++)
            if (word[i] != '`')
                buf_putc(out, word[i]);
        column += len - quotes;
        first = false;
        word += len + strspn(word + len, " ");
    }
    buf_putc(out, '\n');
}

void config_help(struct buf *out) {
    char text[4 * TEXT_BYTES];

    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];

        buf_printf(out, "  %-*s", TEXT_COLUMN - 2, o->name);
        (void)snprintf(text, sizeof(text), "%s: %s [%s]", o->meaning, o->accepted, o->fallback);
        wrap(out, text, TEXT_COLUMN, TEXT_COLUMN);
    }
}

void config_man(struct buf *out) {
    char text[4 * TEXT_BYTES];

    buf_puts(out, ".Bl -tag -width Ds\n");
    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];

        buf_printf(out, ".It Ev %s\n", o->name);
        (void)snprintf(text, sizeof(text), "%s.", o->meaning);
        wrap(out, text, 0, 0);
        (void)snprintf(text, sizeof(text), "Accepted: %s.", o->accepted);
        wrap(out, text, 0, 0);
        (void)snprintf(text, sizeof(text), "Default: %s.", o->fallback);
        wrap(out, text, 0, 0);
    }
    buf_puts(out, ".El\n");
}

void config_markdown(struct buf *out) {
    buf_puts(out, "| variable | default | accepted | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];
        const char *quote = o->found ? "" : "`";

        buf_printf(out, "| `%s` | %s%s%s | %s | %s |\n", o->name, quote, o->fallback, quote,
                   o->accepted, o->meaning);
    }
}

static bool in_environment(char *const *env, const char *name) {
    size_t len = strlen(name);

    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=' && (*env)[len + 1] != '\0')
            return true;
    return false;
}

static void keep_text(const struct config_keep *keep, char *out, size_t size) {
    char bytes[32], age[32];

    text_format_size(keep->bytes, bytes, sizeof(bytes));
    text_format_duration(keep->ms, age, sizeof(age));
    (void)snprintf(out, size, "%s,%s", bytes, age);
}

static void value_json(const struct config *c, const struct option *o, struct buf *out) {
    const void *where = (const char *)c + o->where;
    char text[2 * TEXT_BYTES] = "";

    switch (o->kind) {
    case OPTION_NAME:
    case OPTION_PATH:
    case OPTION_FILE:
    case OPTION_SECRET:
    case OPTION_SINK:
    case OPTION_REGISTRY:
    case OPTION_ADVERTISE:
    case OPTION_LISTEN:
    case OPTION_STORE:
    case OPTION_NOTIFY:
        if (*(char *const *)where == NULL) {
            buf_puts(out, "null");
            return;
        }
        text_show(text, sizeof(text), *(char *const *)where);
        break;
    case OPTION_DURATION:
        text_format_duration(*(const uint64_t *)where, text, sizeof(text));
        break;
    case OPTION_SIZE:
        text_format_size(*(const uint64_t *)where, text, sizeof(text));
        break;
    case OPTION_PERCENT:
        (void)snprintf(text, sizeof(text), "%g%%", *(const double *)where * 100);
        break;
    case OPTION_CHOICE:
        (void)text_copy(
            text, sizeof(text),
            o->words[o->where == offsetof(struct config, log_level) ? (int)c->log_level
                                                                    : (int)c->log_format]);
        break;
    case OPTION_ACTIONS:
        config_write_actions(*(const unsigned *)where, text, sizeof(text));
        break;
    case OPTION_RATE:
        (void)snprintf(text, sizeof(text), "%u/h", *(const unsigned *)where);
        break;
    case OPTION_KEEP:
        keep_text((const struct config_keep *)where, text, sizeof(text));
        break;
    }
    buf_json_string(out, o->secret ? "(hidden)" : text);
}

void config_json(const struct config *c, char *const *env, struct buf *out) {
    bool first = true;

    buf_putc(out, '{');
    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];
        bool given = in_environment(env, o->name);
        char file[64];

        (void)snprintf(file, sizeof(file), "%s_FILE", o->name);
        given |= o->in_file && in_environment(env, file);
        if (o->where == offsetof(struct config, app) && c->app != NULL)
            given = true; /* OTEL_SERVICE_NAME */
        buf_printf(out, "%s\"%s\":{\"value\":", first ? "" : ",", o->name);
        value_json(c, o, out);
        buf_printf(out, ",\"source\":\"%s\"}", given ? "environment" : "default");
        first = false;
    }
    buf_putc(out, '}');
}

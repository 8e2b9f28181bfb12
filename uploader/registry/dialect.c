#include "uploader/registry/dialect.h"

#include <ctype.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"

static bool plain(unsigned char c) {
    return isalnum(c) || c == '-' || c == '_' || c == '.';
}

void registration_id(char out[REGISTRY_ID_BYTES], const char *app, const char *instance) {
    const size_t room = REGISTRY_ID_BYTES - 1 - 9; /* without the hash */
    const char *parts[] = {app, "-", instance};
    bool exact = true;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        for (const char *p = parts[i]; *p != '\0'; p++) {
            bool fine = plain((unsigned char)*p) && n < room;

            exact = exact && fine;
            if (n < room)
                out[n++] = fine ? *p : '-';
        }
    }
    out[n] = '\0';
    if (!exact)
        (void)snprintf(out + n, 10, "-%08x", (unsigned)(schedule_key(app, instance) & 0xffffffffu));
}

void dialect_escape(struct buf *out, const char *s) {
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;

        if (plain(c) || c == '~')
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

/* jansson takes 240 bytes for each object and array, and one call of itself for each depth. */
static bool bounded(const char *body, size_t len) {
    size_t depth = 0, containers = 0;
    bool text = false;

    for (size_t i = 0; i < len; i++) {
        char c = body[i];

        if (text) {
            i += c == '\\';
            text = c != '"';
        } else if (c == '"') {
            text = true;
        } else if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH || ++containers > LIMIT_REGISTRY_CONTAINERS)
                return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *dialect_json(const char *body, size_t len) {
    return bounded(body, len) ? json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

const char *dialect_string(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL ? s : "";
}

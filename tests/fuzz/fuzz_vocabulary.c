/* fuzz_vocabulary.c - a field of a foreign worker: kind, then name, unit, attribute and value, each up to a newline. Whatever it is,
 * what comes out is a name and labels that the text format allows, or nothing. */
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "collectors/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool allowed(const char *s, size_t n) {
    if (n == 0 || isdigit((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return false;
    return true;
}

/* label="value" without a bare quote or newline in the value. */
static bool labels_allowed(const char *s) {
    size_t name = strcspn(s, "=");

    if (*s == '\0')
        return true;
    if (!allowed(s, name) || s[name + 1] != '"')
        return false;
    for (s += name + 2; *s != '"'; s++) {
        if (*s == '\0' || *s == '\n')
            return false;
        if (*s == '\\' && *++s != '\\' && *s != '"' && *s != 'n')
            return false;
    }
    return s[1] == '\0';
}

static void check(int rc, struct prometheus_name *p) {
    if (rc != 0)
        return;
    if (!allowed(p->name, strlen(p->name)) || !labels_allowed(p->labels) || p->help[0] == '\0' ||
        strchr(p->help, '\n') != NULL)
        __builtin_trap();
    prometheus_name_clear(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = mem_strndup((const char *)data + (size > 0), size > 0 ? size - 1 : 0), *parts[4];
    struct prometheus_name p;
    struct schema *s = NULL;
    const char *attributes[2];
    static const double bounds[] = {1};
    char *at = text;

    if (text == NULL || size == 0 || schema_new(&s, 1) != 0) {
        mem_free(text);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        parts[i] = at;
        at += strcspn(at, "\n");
        if (*at != '\0')
            *at++ = '\0';
        if (strlen(parts[i]) > LIMIT_LABEL_BYTES)
            parts[i][LIMIT_LABEL_BYTES] = '\0';
    }
    attributes[0] = parts[2];
    attributes[1] = parts[3];
    if (schema_add(s, parts[0], attributes, parts[2][0] != '\0', parts[1],
                   (enum field_kind)(data[0] % 3), bounds, data[0] % 3 == FIELD_HISTOGRAM) == 0) {
        check(vocabulary_prometheus(&s->fields[0], &p), &p);
        check(vocabulary_prometheus_sum(&s->fields[0], &p), &p);
    }
    schema_unref(s);
    mem_free(text);
    return 0;
}

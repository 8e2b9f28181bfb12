#include "collectors/table.h"

#include <errno.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/text.h"

#define KEY_BYTES 256

/* Cuts "name{a=b,c=d}" apart in place. Returns the number of attributes or -EINVAL. */
static int cut_key(char *key, const char *attributes[2 * LIMIT_ATTRIBUTES]) {
    char *p = strchr(key, '{');
    int n = 0;

    if (p == NULL)
        return 0;
    *p++ = '\0';
    for (;;) {
        char *equals = strchr(p, '='), *end = p + strcspn(p, ",}");

        if (equals == NULL || equals > end || *end == '\0' || n == LIMIT_ATTRIBUTES)
            return -EINVAL;
        attributes[2 * n] = p;
        attributes[2 * n + 1] = equals + 1;
        n++;
        *equals = '\0';
        if (*end == '}')
            return end[1] == '\0' ? (*end = '\0', n) : -EINVAL;
        *end = '\0';
        p = end + 1;
    }
}

int table_schema(const struct table_row *rows, size_t n, struct schema **ret) {
    struct schema *s = NULL;
    int rc = schema_new(&s, n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const char *attributes[2 * LIMIT_ATTRIBUTES];
        char key[KEY_BYTES];
        int count;

        if (!text_copy(key, sizeof(key), rows[i].key)) {
            rc = -EINVAL;
            break;
        }
        count = cut_key(key, attributes);
        rc = count < 0 ? count
                       : schema_add(s, key, attributes, (size_t)count, rows[i].unit, rows[i].kind,
                                    NULL, 0);
    }
    if (rc != 0) {
        schema_unref(s);
        return rc;
    }
    *ret = s;
    return 0;
}

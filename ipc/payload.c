#include "ipc/payload.h"

#include <errno.h>
#include <stdarg.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "ipc/frame.h"

int payload_refuse(const struct payload *p, const char *fmt, ...) {
    va_list ap;
    int n = snprintf(p->why, PAYLOAD_WHY_BYTES, "%s", p->where);

    va_start(ap, fmt);
    (void)vsnprintf(p->why + n, PAYLOAD_WHY_BYTES - (size_t)n, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* jansson goes 2,048 levels deep and takes 240 bytes for each "{}", so both are counted before it starts. */
static int check_nesting(const char *json, size_t len, const struct payload *p) {
    unsigned depth = 0, containers = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = json[i];

        if (in_string) {
            if (c == '\\')
                i++; /* the next one cannot end the string */
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH)
                return payload_refuse(p, "JSON: nested deeper than %d levels", LIMIT_JSON_DEPTH);
            if (++containers > LIMIT_JSON_CONTAINERS)
                return payload_refuse(p, "JSON: more than %d objects and arrays",
                                      LIMIT_JSON_CONTAINERS);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return 0;
}

/* jansson reports a failed allocation inside a token as a syntax error. A peer must not be refused for that, so a text that
 * does not parse gets a second chance, and lack of memory is asked for by itself. */
static int parse(const char *json, size_t len, json_t **ret, json_error_t *error) {
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, error);
    void *probe;

    if (root == NULL) {
        probe = mem_alloc(len);
        if (probe == NULL)
            return -ENOMEM;
        mem_free(probe);
        root = json_loadb(json, len, JSON_REJECT_DUPLICATES, error);
    }
    if (root == NULL &&
        (error->text[0] == '\0' || json_error_code(error) == json_error_out_of_memory))
        return -ENOMEM;
    *ret = root;
    return root != NULL ? 0 : -EINVAL;
}

/* The error's text quotes what it stumbled over, which may be anything. */
static void keep_printable(char *s) {
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            *s = '?';
}

int payload_object(const char *json, size_t len, json_t **ret, const struct payload *p) {
    json_error_t error;
    json_t *root;
    int rc;

    if (len > FRAME_PAYLOAD_BYTES)
        return payload_refuse(p, "JSON: more than %d bytes", FRAME_PAYLOAD_BYTES);
    if (memchr(json, '\0', len) != NULL)
        return payload_refuse(p, "JSON: a NUL byte");
    rc = check_nesting(json, len, p);
    if (rc != 0)
        return rc;
    rc = parse(json, len, &root, &error);
    if (rc == -EINVAL) {
        keep_printable(error.text);
        return payload_refuse(p, "JSON: %s (at byte %d)", error.text, error.position);
    }
    if (rc != 0)
        return rc;
    if (!json_is_object(root)) {
        json_decref(root);
        return payload_refuse(p, "JSON: one object is accepted");
    }
    *ret = root;
    return 0;
}

int payload_integer(json_t *object, const char *key, json_int_t min, json_int_t max,
                    json_int_t fallback, json_int_t *ret, const struct payload *p) {
    json_t *v = json_object_get(object, key);

    if (v == NULL && fallback >= 0) {
        *ret = fallback;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return payload_refuse(
            p, "%s: an integer from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT " is %s",
            key, min, max, v == NULL ? "required" : "accepted");
    *ret = json_integer_value(v);
    return 0;
}

size_t payload_utf8_bytes(char first) {
    unsigned char c = (unsigned char)first;

    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* C0, DEL and C1: what could drive a terminal. */
static bool is_control(const char *s) {
    unsigned char c = (unsigned char)s[0];

    return c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0);
}

static void copy_label(char *out, size_t size, const char *s) {
    size_t at = 0, n;

    for (; *s != '\0'; s += n) {
        bool control = is_control(s);

        n = payload_utf8_bytes(*s);
        if (at + n >= size)
            break;
        if (control)
            out[at++] = ' ';
        else
            memcpy(out + at, s, n);
        at += control ? 0 : n;
    }
    out[at] = '\0';
}

int payload_label(json_t *object, const char *key, bool required, char *out, size_t size,
                  const struct payload *p) {
    json_t *v = json_object_get(object, key);

    if (v == NULL && !required) {
        out[0] = '\0';
        return 0;
    }
    if (!json_is_string(v))
        return payload_refuse(p, "%s: a string is %s", key, v == NULL ? "required" : "accepted");
    copy_label(out, size, json_string_value(v));
    return 0;
}

bool payload_is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool payload_is_name(const char *s) {
    size_t len = strlen(s);

    if (len < 1 || len > LIMIT_NAME_BYTES)
        return false;
    for (; *s != '\0'; s++)
        if (!payload_is_alnum(*s) && *s != '.' && *s != '_')
            return false;
    return true;
}

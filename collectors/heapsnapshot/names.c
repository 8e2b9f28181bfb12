#include "collectors/heapsnapshot/names.h"

#include <errno.h>

#include "agent/base/mem.h"

#define REPLACEMENT 0xfffd
#define END         1

static void put_bytes(struct names *s, const char *p, size_t n) {
    if (s->len + n > LIMIT_HEAP_NAME_BYTES)
        s->cut = true;
    if (s->cut)
        return;
    for (size_t i = 0; i < n; i++)
        s->text[s->len++] = p[i];
}

static void put_code(struct names *s, unsigned code) {
    char out[4];
    size_t n = 0;

    if (code == 0) /* names are C strings from here on */
        code = REPLACEMENT;
    if (code < 0x80) {
        out[n++] = (char)code;
    } else if (code < 0x800) {
        out[n++] = (char)(0xc0 | code >> 6);
    } else if (code < 0x10000) {
        out[n++] = (char)(0xe0 | code >> 12);
        out[n++] = (char)(0x80 | (code >> 6 & 0x3f));
    } else {
        out[n++] = (char)(0xf0 | code >> 18);
        out[n++] = (char)(0x80 | (code >> 12 & 0x3f));
        out[n++] = (char)(0x80 | (code >> 6 & 0x3f));
    }
    if (code >= 0x80)
        out[n++] = (char)(0x80 | (code & 0x3f));
    put_bytes(s, out, n);
}

/* A first half that no second half followed. */
static void flush_half(struct names *s) {
    if (s->high != 0)
        put_code(s, REPLACEMENT);
    s->high = 0;
}

static void put_unit(struct names *s, unsigned unit) {
    if (unit >= 0xdc00 && unit < 0xe000 && s->high != 0) {
        put_code(s, 0x10000 + ((s->high - 0xd800) << 10) + (unit - 0xdc00));
        s->high = 0;
        return;
    }
    flush_half(s);
    if (unit >= 0xd800 && unit < 0xdc00)
        s->high = unit;
    else
        put_code(s, unit >= 0xdc00 && unit < 0xe000 ? REPLACEMENT : unit);
}

static int hex(char ch) {
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static int on_digit(struct names *s, char ch) {
    int v = hex(ch);

    if (v < 0)
        return -EINVAL;
    s->unit = s->unit << 4 | (unsigned)v;
    if (--s->digits == 0)
        put_unit(s, s->unit);
    return 0;
}

static int on_escape(struct names *s, char ch) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at = ch == '\0' ? NULL : strchr(from, ch);

    s->escaped = false;
    if (ch == 'u') {
        s->digits = 4;
        s->unit = 0;
        return 0;
    }
    if (at == NULL)
        return -EINVAL;
    put_unit(s, (unsigned char)to[at - from]);
    return 0;
}

static int end_text(struct names *s, struct classes *c) {
    static const char dots[] = "...";

    s->state = NAMES_AFTER;
    flush_half(s);
    if (s->cut) {
        while (s->len > LIMIT_HEAP_NAME_BYTES - sizeof(dots) + 1 ||
               (s->len > 0 && ((unsigned char)s->text[s->len - 1] & 0xc0) == 0x80))
            s->len--; /* no half letters */
        if (s->len > 0 && (unsigned char)s->text[s->len - 1] >= 0xc0)
            s->len--;
        for (size_t i = 0; dots[i] != '\0'; i++)
            s->text[s->len++] = dots[i];
    }
    if (s->count == UINT32_MAX - 1)
        return -EINVAL;
    s->count++;
    return s->wanted ? classes_name(c, s->text, s->len) : 0;
}

static void begin_text(struct names *s, const struct classes *c) {
    s->state = NAMES_TEXT;
    s->wanted = classes_wanted(c) == s->count;
    s->escaped = s->cut = false;
    s->digits = s->high = 0;
    s->len = 0;
}

/* Inside a string that nobody wants: up to its quote, or to an escape. */
static size_t pass(struct names *s, const char *p, size_t len) {
    size_t i = 0;

    if (s->escaped && len > 0) {
        s->escaped = false;
        i = 1;
    }
    while (i < len && p[i] != '"') {
        if (p[i] == '\\') {
            if (i + 1 == len) {
                s->escaped = true;
                return len;
            }
            i++;
        }
        i++;
    }
    return i;
}

static int on_text(struct names *s, struct classes *c, char ch) {
    if (s->digits > 0)
        return on_digit(s, ch);
    if (s->escaped)
        return on_escape(s, ch);
    if (ch == '"')
        return end_text(s, c);
    if (ch == '\\') {
        s->escaped = true;
    } else {
        flush_half(s);
        put_bytes(s, ch == '\0' ? "?" : &ch, 1);
    }
    return 0;
}

static int on_between(struct names *s, const struct classes *c, char ch) {
    if (ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t')
        return 0;
    if (ch == '"' && s->state != NAMES_AFTER)
        begin_text(s, c);
    else if (ch == ',' && s->state == NAMES_AFTER)
        s->state = NAMES_VALUE;
    else if (ch == ']' && s->state != NAMES_VALUE)
        return END;
    else
        return -EINVAL;
    return 0;
}

size_t names_push(struct names *s, struct classes *c, const char *p, size_t len, int *ret_rc) {
    size_t i = 0;
    int rc = 0;

    while (i < len && rc == 0) {
        if (s->state == NAMES_TEXT) {
            if (!s->wanted && (i += pass(s, p + i, len - i)) == len)
                break;
            rc = on_text(s, c, p[i++]);
        } else {
            rc = on_between(s, c, p[i++]);
        }
    }
    *ret_rc = rc;
    return i;
}

/* json.c - strings end where 16 bytes at once say so; whole numbers never go through strtod(). Every byte is looked at once. */
#include "collectors/flamegraph/json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "agent/base/mem.h"

#define SKIP_DEPTH   1024
#define NUMBER_BYTES 64
#define WHOLE_MAX    9007199254740992.0 /* 2^53 */

void json_init(struct json *j, struct source *source, char *why) {
    memset(j, 0, offsetof(struct json, scratch));
    j->source = source;
    j->why = why;
    j->p = j->end = source_data(source);
}

uint64_t json_offset(const struct json *j) {
    return source_offset(j->source) + (uint64_t)(j->p - source_data(j->source));
}

bool json_seen(const struct json *j, uint64_t offset, const unsigned char **ret) {
    uint64_t begin = source_offset(j->source);

    if (offset < begin)
        return false;
    *ret = source_data(j->source) + (offset - begin);
    return true;
}

int json_fail(struct json *j, const char *fmt, ...) {
    va_list args;

    if (j->err != 0)
        return j->err;
    va_start(args, fmt);
    (void)vsnprintf(j->why, JSON_WHY_BYTES, fmt, args);
    va_end(args);
    j->err = -EINVAL;
    return j->err;
}

static int cut_off(struct json *j) {
    uint64_t at = source_offset(j->source) + source_len(j->source); /* all of it was read */

    if (at == 0)
        return json_fail(j, "the input is empty");
    return json_fail(j, "the profile is cut off at byte %llu%s", (unsigned long long)at,
                     source_is_gzip(j->source) ? " (unpacked)" : "");
}

/* More bytes behind `from`, which moves with the window, as j->p does. 1, or 0 at the end of the input. */
static int more(struct json *j, const unsigned char **from) {
    const unsigned char *data = source_data(j->source);
    size_t keep = (size_t)(*from - data), ahead = (size_t)(j->p - *from);
    int rc = j->err != 0 ? j->err : source_more(j->source, keep);

    if (rc >= 0) {
        *from = data;
        j->p = data + ahead;
        j->end = data + source_len(j->source);
        return rc;
    }
    if (rc == -EPIPE)
        return json_fail(j, "the gzip data are cut off at byte %llu of what they hold",
                         (unsigned long long)json_offset(j));
    if (rc == -EBADMSG)
        return json_fail(j, "the gzip data are damaged at byte %llu of what they hold",
                         (unsigned long long)json_offset(j));
    if (j->err == 0)
        j->err = rc;
    return rc;
}

/* At least one byte at j->p: 1; the end: 0. */
static inline int ready(struct json *j) {
    const unsigned char *from = j->p;

    return j->p < j->end ? 1 : more(j, &from);
}

static int slow_peek(struct json *j, unsigned char *ret) {
    int rc;

    for (;;) {
        while (j->p < j->end) {
            unsigned char c = *j->p;

            if (c > ' ') {
                *ret = c;
                return 0;
            }
            if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
                return json_fail(j, "this is not JSON: byte %llu is 0x%02x",
                                 (unsigned long long)json_offset(j), c);
            j->p++;
        }
        rc = ready(j);
        if (rc <= 0) {
            *ret = 0;
            return rc;
        }
    }
}

static inline int peek(struct json *j, unsigned char *ret) {
    if (j->p<j->end && * j->p> ' ') {
        *ret = *j->p;
        return 0;
    }
    return slow_peek(j, ret);
}

int json_peek(struct json *j, unsigned char *ret) {
    return peek(j, ret);
}

static const char *name_of(unsigned char c, char out[16]) {
    if (c >= 0x7f)
        (void)snprintf(out, 16, "0x%02x", c);
    else
        (void)snprintf(out, 16, "'%c'", c);
    return out;
}

static int slow_expect(struct json *j, char wanted) {
    unsigned char c;
    char shown[16];
    int rc = peek(j, &c);

    if (rc != 0)
        return rc;
    if (c == 0)
        return cut_off(j);
    if (c != (unsigned char)wanted)
        return json_fail(j, "'%c' is wanted at byte %llu, there is %s", wanted,
                         (unsigned long long)json_offset(j), name_of(c, shown));
    j->p++;
    return 0;
}

/* Takes the next byte when it is `wanted`. */
static inline int expect(struct json *j, char wanted) {
    if (j->p < j->end && *j->p == (unsigned char)wanted) {
        j->p++;
        return 0;
    }
    return slow_expect(j, wanted);
}

int json_enter(struct json *j, char open) {
    return expect(j, open);
}

int json_element(struct json *j, bool *first) {
    unsigned char c;
    int rc = peek(j, &c);

    if (rc != 0)
        return rc;
    if (c == ']') {
        j->p++;
        return 0;
    }
    if (!*first)
        return (rc = expect(j, ',')) != 0 ? rc : 1;
    if (c == 0)
        return cut_off(j);
    *first = false;
    return 1;
}

int json_member(struct json *j, bool *first, struct json_span *ret) {
    unsigned char c;
    int rc = peek(j, &c);

    if (rc != 0)
        return rc;
    if (c == '}') {
        j->p++;
        return 0;
    }
    if (!*first && (rc = expect(j, ',')) != 0)
        return rc;
    *first = false;
    rc = json_string(j, ret);
    if (rc != 0)
        return rc;
    if (j->p < j->end && *j->p == ':') {
        j->p++;
        return 1;
    }
    /* The key must outlive the look for its colon. */
    if (ret->p != j->scratch) {
        j->scratch_len = ret->len;
        memcpy(j->scratch, ret->p, ret->len);
        ret->p = j->scratch;
    }
    rc = expect(j, ':');
    return rc != 0 ? rc : 1;
}

/* The first '"' or '\' from p on; `end` when there is none. May look at 15 bytes behind it. */
static inline const unsigned char *string_stop(const unsigned char *p, const unsigned char *end) {
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');

    for (; p < end; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        unsigned found = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)));

        if (found != 0) {
            p += __builtin_ctz(found);
            return p < end ? p : end;
        }
    }
    return end;
#else
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
#endif
}

static void keep_bytes(struct json *j, const void *p, size_t n) {
    size_t room = LIMIT_PROFILE_NAME_BYTES - j->scratch_len;

    n = n < room ? n : room;
    memcpy(j->scratch + j->scratch_len, p, n);
    j->scratch_len += n;
}

static void keep_code_point(struct json *j, uint32_t c) {
    unsigned char u[4];
    size_t n = 0;

    if (c < 0x80) {
        u[n++] = (unsigned char)c;
    } else if (c < 0x800) {
        u[n++] = (unsigned char)(0xc0 | c >> 6);
        u[n++] = (unsigned char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        u[n++] = (unsigned char)(0xe0 | c >> 12);
        u[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        u[n++] = (unsigned char)(0x80 | (c & 0x3f));
    } else {
        u[n++] = (unsigned char)(0xf0 | c >> 18);
        u[n++] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
        u[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        u[n++] = (unsigned char)(0x80 | (c & 0x3f));
    }
    keep_bytes(j, u, n);
}

/* One byte inside a string. */
static int string_byte(struct json *j, unsigned char *ret) {
    int rc = ready(j);

    if (rc <= 0)
        return rc < 0 ? rc : cut_off(j);
    *ret = *j->p++;
    return 0;
}

static int hex4(struct json *j, uint32_t *ret) {
    uint32_t v = 0;

    for (int i = 0; i < 4; i++) {
        unsigned char c = 0;
        int rc = string_byte(j, &c);

        if (rc != 0)
            return rc;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            v = v << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return json_fail(j, "four hexadecimal digits are wanted before byte %llu",
                             (unsigned long long)json_offset(j));
    }
    *ret = v;
    return 0;
}

/* What comes after "\u", a second half of a surrogate pair included. Half a pair becomes U+FFFD. */
static int unicode_escape(struct json *j) {
    const unsigned char *from;
    uint32_t c = 0, low = 0;
    int rc = hex4(j, &c);

    if (rc != 0)
        return rc;
    if (c < 0xd800 || c > 0xdfff) {
        keep_code_point(j, c);
        return 0;
    }
    from = j->p;
    while (j->end - from < 6 && (rc = more(j, &from)) > 0)
        j->p = from;
    if (rc < 0)
        return rc;
    if (c >= 0xdc00 || j->end - j->p < 6 || j->p[0] != '\\' || j->p[1] != 'u') {
        keep_code_point(j, 0xfffd);
        return 0;
    }
    j->p += 2;
    rc = hex4(j, &low);
    if (rc != 0)
        return rc;
    if (low >= 0xdc00 && low <= 0xdfff)
        keep_code_point(j, 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff)));
    else {
        keep_code_point(j, 0xfffd);
        keep_code_point(j, low >= 0xd800 && low < 0xdc00 ? 0xfffd : low);
    }
    return 0;
}

static int escape(struct json *j) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    unsigned char c = 0;
    int rc = string_byte(j, &c);

    if (rc != 0)
        return rc;
    if (c == 'u')
        return unicode_escape(j);
    found = c != 0 ? strchr(from, c) : NULL;
    if (found == NULL)
        return json_fail(j, "the string has an escape that is none before byte %llu",
                         (unsigned long long)json_offset(j));
    keep_bytes(j, &to[found - from], 1);
    return 0;
}

/* Cut in the middle of a character: back to its begin. */
static size_t whole_characters(const char *s, size_t n) {
    size_t k = n;

    while (k > 0 && n - k < 3 && ((unsigned char)s[k - 1] & 0xc0) == 0x80)
        k--;
    return k > 0 && ((unsigned char)s[k - 1] & 0xc0) == 0xc0 ? k - 1 : n;
}

/* The string from j->p on, piece by piece into the scratch: escapes, and strings longer than the window. */
static int slow_string(struct json *j, struct json_span *ret) {
    int rc;

    j->scratch_len = 0;
    for (;;) {
        const unsigned char *stop = string_stop(j->p, j->end);

        keep_bytes(j, j->p, (size_t)(stop - j->p));
        j->p = stop;
        if (stop == j->end) {
            rc = ready(j);
            if (rc <= 0)
                return rc < 0 ? rc : cut_off(j);
            continue;
        }
        j->p++;
        if (*stop == '"')
            break;
        rc = escape(j);
        if (rc != 0)
            return rc;
    }
    ret->p = j->scratch;
    ret->len = j->scratch_len == LIMIT_PROFILE_NAME_BYTES
                   ? whole_characters(j->scratch, j->scratch_len)
                   : j->scratch_len;
    return 0;
}

int json_string(struct json *j, struct json_span *ret) {
    const unsigned char *from, *stop;
    int rc = expect(j, '"');

    if (rc != 0)
        return rc;
    from = j->p;
    stop = string_stop(from, j->end);
    if (stop == j->end) {
        /* Most often the rest is what is missing: once more with all of it in the window. */
        rc = more(j, &from);
        if (rc < 0 && rc != -ENOBUFS)
            return rc;
        if (rc == -ENOBUFS)
            j->err = 0;
        j->p = from;
        stop = string_stop(from, j->end);
    }
    if (stop == j->end || *stop == '\\' || stop - from > LIMIT_PROFILE_NAME_BYTES)
        return slow_string(j, ret);
    ret->p = (const char *)from;
    ret->len = (size_t)(stop - from);
    j->p = stop + 1;
    return 0;
}

static inline bool number_byte(unsigned char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* All bytes of the number in the window, and one behind it. */
static int number_span(struct json *j, const unsigned char **ret_end) {
    const unsigned char *from, *p;
    unsigned char c;
    int rc = peek(j, &c);

    if (rc != 0)
        return rc;
    if (c == 0)
        return cut_off(j);
    if (c != '-' && (c < '0' || c > '9'))
        return json_fail(j, "a number is wanted at byte %llu", (unsigned long long)json_offset(j));
    for (;;) {
        from = j->p;
        for (p = from; p < j->end && number_byte(*p); p++)
            if (p - from >= NUMBER_BYTES)
                return json_fail(j, "the number at byte %llu is longer than %d bytes",
                                 (unsigned long long)json_offset(j), NUMBER_BYTES);
        if (p < j->end)
            break;
        rc = more(j, &from);
        j->p = from;
        if (rc < 0)
            return rc;
        if (rc == 0)
            return cut_off(j);
    }
    *ret_end = p;
    return 0;
}

static int any_number(struct json *j, double *ret) {
    const unsigned char *end = j->p;
    char text[NUMBER_BYTES + 1], *stop;
    size_t n;
    double v;
    int rc = number_span(j, &end);

    if (rc != 0)
        return rc;
    n = (size_t)(end - j->p);
    memcpy(text, j->p, n);
    text[n] = '\0';
    v = strtod(text, &stop); /* the program never sets a locale: the point is a point */
    if (*stop != '\0')
        return json_fail(j, "the number at byte %llu is none", (unsigned long long)json_offset(j));
    j->p = end;
    *ret = v;
    return 0;
}

/* Up to 15 digits and nothing else, the byte behind them in the window: true, and they are taken. */
static inline bool whole_number(struct json *j, int64_t *ret) {
    const unsigned char *p = j->p, *digits;
    bool minus = p < j->end && *p == '-';
    int64_t v = 0;

    p += minus;
    for (digits = p; p < j->end && *p >= '0' && *p <= '9' && p - digits < 15; p++)
        v = v * 10 + (*p - '0');
    if (p == digits || p == j->end || number_byte(*p))
        return false;
    j->p = p;
    *ret = minus ? -v : v;
    return true;
}

int json_number(struct json *j, double *ret) {
    int64_t v;

    if (!whole_number(j, &v))
        return any_number(j, ret);
    *ret = (double)v;
    return 0;
}

int json_integer(struct json *j, int64_t *ret) {
    unsigned char c;
    double d;
    int rc;

    if (whole_number(j, ret))
        return 0;
    rc = peek(j, &c);
    if (rc != 0)
        return rc;
    if (whole_number(j, ret))
        return 0;
    rc = any_number(j, &d);
    if (rc != 0)
        return rc;
    d = fmax(-WHOLE_MAX, fmin(WHOLE_MAX, isnan(d) ? 0 : d));
    *ret = (int64_t)d;
    return 0;
}

static int skip_string(struct json *j) {
    int rc;

    j->p++;
    for (;;) {
        j->p = string_stop(j->p, j->end);
        if (j->p < j->end) {
            if (*j->p++ == '"')
                return 0;
            rc = ready(j);
            if (rc > 0) {
                j->p++; /* whatever is escaped: a quote or a backslash at most */
                continue;
            }
        } else {
            rc = ready(j);
        }
        if (rc <= 0)
            return rc < 0 ? rc : cut_off(j);
    }
}

/* A number, true, false or null. */
static int skip_scalar(struct json *j) {
    const unsigned char *from = j->p;
    int rc = 1;

    while (rc > 0) {
        while (j->p < j->end && (number_byte(*j->p) || (*j->p >= 'a' && *j->p <= 'z')))
            j->p++;
        if (j->p < j->end)
            break;
        from = j->p - 1; /* so that it is known that there was one */
        rc = more(j, &from);
    }
    if (rc < 0)
        return rc;
    if (rc == 0)
        return cut_off(j);
    return j->p > from
               ? 0
               : json_fail(j, "a value is wanted at byte %llu", (unsigned long long)json_offset(j));
}

int json_skip(struct json *j) {
    uint8_t object[SKIP_DEPTH / 8] = {0};
    size_t depth = 0;
    unsigned char c;
    int rc;

    do {
        rc = peek(j, &c);
        if (rc == 0 && c == 0)
            rc = cut_off(j);
        if (rc != 0)
            return rc;
        if (c == '{' || c == '[') {
            if (depth == SKIP_DEPTH)
                return json_fail(j, "values are nested deeper than %d at byte %llu", SKIP_DEPTH,
                                 (unsigned long long)json_offset(j));
            object[depth / 8] = (uint8_t)((object[depth / 8] & ~(1u << depth % 8)) |
                                          (c == '{' ? 1u << depth % 8 : 0));
            depth++;
            j->p++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
            if ((object[depth / 8] >> depth % 8 & 1) != (c == '}'))
                return json_fail(j, "the wrong bracket stands at byte %llu",
                                 (unsigned long long)json_offset(j));
            j->p++;
        } else if (c == '"') {
            rc = skip_string(j);
        } else if (depth > 0 && (c == ',' || c == ':')) {
            j->p++;
        } else {
            rc = skip_scalar(j);
        }
    } while (rc == 0 && depth > 0);
    return rc;
}

int json_finish(struct json *j) {
    unsigned char c;
    int rc = peek(j, &c);

    if (rc == 0 && c != 0)
        return json_fail(j, "the profile ends at byte %llu, and there is more behind it",
                         (unsigned long long)json_offset(j));
    return rc;
}

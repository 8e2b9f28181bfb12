#include "agent/base/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "agent/base/mem.h"

#define DISTANCE_BYTES 64

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

static const struct unit sizes[] = {
    {"GiB", 1u << 30},  {"MiB", 1u << 20}, {"KiB", 1u << 10}, {"B", 1},
    {"GB", 1000000000}, {"MB", 1000000},   {"KB", 1000},
};

/* Digits at s; *end is the first character behind them. */
static int digits(const char *s, const char **end, uint64_t *ret) {
    uint64_t v = 0;

    if (!isdigit((unsigned char)*s))
        return -EINVAL;
    for (; isdigit((unsigned char)*s); s++) {
        unsigned d = (unsigned)(*s - '0');

        if (v > (UINT64_MAX - d) / 10)
            return -ERANGE;
        v = v * 10 + d;
    }
    *end = s;
    *ret = v;
    return 0;
}

static int with_unit(const char *s, const struct unit *units, size_t n, bool bare, uint64_t *ret) {
    const char *end;
    uint64_t v;
    int rc = digits(s, &end, &v);

    if (rc != 0)
        return rc;
    if (*end == '\0') {
        if (!bare && v != 0)
            return -EINVAL;
        *ret = v;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        if (v > UINT64_MAX / units[i].factor)
            return -ERANGE;
        *ret = v * units[i].factor;
        return 0;
    }
    return -EINVAL;
}

int text_u64(const char *s, uint64_t *ret) {
    return with_unit(s, NULL, 0, true, ret);
}

int text_duration_ms(const char *s, uint64_t *ret_ms) {
    return with_unit(s, durations, ARRAY_LEN(durations), false, ret_ms);
}

int text_size_bytes(const char *s, uint64_t *ret) {
    return with_unit(s, sizes, ARRAY_LEN(sizes), true, ret);
}

int text_percent(const char *s, double *ret_share) {
    const char *end;
    uint64_t v;
    int rc = digits(s, &end, &v);

    if (rc != 0 || strcmp(end, "%") != 0)
        return -EINVAL;
    if (v > 100)
        return -ERANGE;
    *ret_share = (double)v / 100;
    return 0;
}

/* `units` must run from the largest to the smallest. */
static void format_unit(uint64_t v, const struct unit *units, size_t n, char *out, size_t size) {
    for (size_t i = 0; i < n; i++)
        if (v >= units[i].factor && v % units[i].factor == 0) {
            (void)snprintf(out, size, "%" PRIu64 "%s", v / units[i].factor, units[i].name);
            return;
        }
    (void)snprintf(out, size, "%" PRIu64, v);
}

void text_format_duration(uint64_t ms, char *out, size_t size) {
    format_unit(ms, durations, ARRAY_LEN(durations), out, size);
}

void text_format_size(uint64_t bytes, char *out, size_t size) {
    format_unit(bytes, sizes, 4, out, size); /* the binary ones */
}

static size_t min3(size_t a, size_t b, size_t c) {
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

static bool same_letter(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

size_t text_distance(const char *a, const char *b) {
    size_t la = strlen(a), lb = strlen(b);
    size_t rows[3][DISTANCE_BYTES]; /* this row, the one above, the one above that */
    size_t *row = rows[0], *up = rows[1], *up2 = rows[2], *tmp;

    if (la >= DISTANCE_BYTES || lb >= DISTANCE_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        tmp = up2, up2 = up, up = row, row = tmp;
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            row[j] = min3(up[j] + 1, row[j - 1] + 1,
                          up[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0 : 1));
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]) && up2[j - 2] + 1 < row[j])
                row[j] = up2[j - 2] + 1;
        }
    }
    return row[lb];
}

size_t text_utf8_len(const unsigned char *p) {
    unsigned lo = 0x80, hi = 0xbf;
    size_t n;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        n = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        n = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        n = 4;
    else
        return 0;
    lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : lo;
    hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : hi;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return n;
}

/* As text_utf8_len(), but 0 for what moves a cursor as well: the C0 and C1 controls and DEL. */
static size_t shown_len(const unsigned char *p) {
    size_t n = text_utf8_len(p);

    return (n == 1 && (*p < 0x20 || *p == 0x7f)) || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) ? 0 : n;
}

/* From behind "://": how far user and password reach, 0 when there are none. A password may hold what it should not ('/', ',', '@'),
 * so this goes to the last '@' before the next URL. */
static size_t userinfo_len(const char *s) {
    const char *next = strstr(s, "://");
    size_t len = next != NULL ? (size_t)(next - s) : strlen(s);

    while (len > 0 && s[len - 1] != '@')
        len--;
    return len;
}

void text_show(char *out, size_t size, const char *s) {
    bool in_url = false;
    size_t used = 0;

    while (*s != '\0') {
        const char *add = s;
        size_t skip = shown_len((const unsigned char *)s), n = skip;

        if (in_url && *s == '?') {
            add = "?***", n = 4, skip = strcspn(s, ", ");
        } else if (text_starts(s, "://")) {
            size_t secret = userinfo_len(s + 3);

            in_url = true;
            add = secret > 0 ? "://***@" : "://", n = strlen(add), skip = 3 + secret;
        } else if (skip == 0) {
            add = "?", n = 1, skip = 1;
        }
        if (used + n + sizeof("...") > size) {
            s = "...";
            n = strnlen(s, size - used - 1);
            memcpy(out + used, s, n);
            used += n;
            break;
        }
        memcpy(out + used, add, n);
        used += n;
        s += skip;
    }
    out[used] = '\0';
}

bool text_starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_copy(char *out, size_t size, const char *s) {
    size_t n = strnlen(s, size);
    bool whole = n < size;

    if (size == 0)
        return false;
    if (!whole)
        n = size - 1;
    memcpy(out, s, n);
    out[n] = '\0';
    return whole;
}

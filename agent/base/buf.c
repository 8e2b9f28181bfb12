#include "agent/base/buf.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define FIRST_BYTES 256

void buf_init(struct buf *b, size_t max) {
    *b = (struct buf){.max = max};
}

void buf_clear(struct buf *b) {
    mem_free(b->data);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b) {
    b->len = 0;
    b->err = 0;
    if (b->data != NULL)
        b->data[0] = '\0';
}

char *buf_take(struct buf *b, size_t *ret_len) {
    char *data = b->data;

    if (ret_len != NULL)
        *ret_len = b->len;
    buf_init(b, b->max);
    return data;
}

int buf_reserve(struct buf *b, size_t more) {
    size_t cap = b->cap > 0 ? b->cap : FIRST_BYTES;
    char *data;

    if (b->err != 0)
        return b->err;
    if (more > b->max || b->len > b->max - more)
        return b->err = -ENOBUFS;
    if (b->data != NULL && b->cap - b->len > more)
        return 0;
    while (cap - b->len <= more)
        cap *= 2;
    data = mem_realloc(b->data, cap);
    if (data == NULL)
        return b->err = -ENOMEM;
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return 0;
}

void buf_add(struct buf *b, const void *p, size_t n) {
    if (buf_reserve(b, n) != 0 || n == 0)
        return;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c) {
    buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || buf_reserve(b, (size_t)n) != 0)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt,
                    ap); /* reserve() keeps room for the NUL */
    va_end(ap);
    b->len += (size_t)n;
}

static void put_escaped(struct buf *b, unsigned char c) {
    static const char hex[] = "0123456789abcdef";
    char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

    if (c == '"' || c == '\\')
        buf_add(b, (char[]){'\\', (char)c}, 2);
    else if (c == '\n')
        buf_puts(b, "\\n");
    else
        buf_add(b, u, sizeof(u));
}

void buf_json_string(struct buf *b, const char *s) {
    const unsigned char *p = (const unsigned char *)s;

    buf_putc(b, '"');
    while (*p != '\0') {
        size_t n = text_utf8_len(p);

        if (n == 0) {
            buf_puts(b, "\xef\xbf\xbd");
            n = 1;
        } else if (n == 1 && (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f)) {
            put_escaped(b, *p);
        } else {
            buf_add(b, p, n);
        }
        p += n;
    }
    buf_putc(b, '"');
}

void buf_u64(struct buf *b, uint64_t v) {
    char tmp[20];
    size_t i = sizeof(tmp);

    do {
        tmp[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_add(b, tmp + i, sizeof(tmp) - i);
}

/* Digits of v right-aligned before `end`, at least `least` of them; returns their start. Two at a time: it is the hot part. */
static char *digits_before(char *end, uint64_t v, size_t least) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233"
        "34353637383940414243444546474849505152535455565758596061626364656667"
        "6869707172737475767778798081828384858687888990919293949596979899";
    char *p = end;

    for (; v >= 10; v /= 100)
        memcpy(p -= 2, pairs + 2 * (v % 100), 2);
    if (v > 0)
        *--p = (char)('0' + v);
    while ((size_t)(end - p) < least)
        *--p = '0';
    return p;
}

/* v × 10^-decimals in full, without zeros at its end: needs decimals > 0 or a v without any. */
static size_t put_decimal(char *out, uint64_t v, unsigned decimals) {
    char tmp[2 * BUF_NUMBER_BYTES], *end = tmp + sizeof(tmp), *p;
    size_t whole;

    for (; decimals > 0 && v % 10 == 0; v /= 10)
        decimals--;
    p = digits_before(end, v, decimals + 1);
    whole = (size_t)(end - p) - decimals;
    memcpy(out, p, whole);
    if (decimals == 0)
        return whole;
    out[whole] = '.';
    memcpy(out + whole + 1, p + whole, decimals);
    return whole + 1 + decimals;
}

/* What a clock of nanoseconds gave: v is n × 10^-9 with at most 15 digits, which every double keeps apart. The division of two
 * exact numbers is rounded in the way strtod rounds, so that the check is exact. */
static size_t put_nanos(char *out, double v) {
    double n;

    if (v >= 1e6)
        return 0;
    n = (double)(uint64_t)(v * 1e9 + 0.5);
    return n > 0 && n / 1e9 == v ? put_decimal(out, (uint64_t)n, 9) : 0;
}

/* Any other number between 10^-4 and 10^15, which is m × 2^-k: all decimals between the two midpoints to its neighbours read
 * back as v. Scaled so that 17 digits stand before the point, the range holds a whole number at least; digits are taken off as
 * long as it still holds one, and the one nearest to v is it. Exact: 128 bits hold (2m + 1) × 10^21. */
static size_t put_shortest(char *out, double v) {
    static const uint64_t tens[] = {1,       10,       100,       1000,       10000,      100000,
                                    1000000, 10000000, 100000000, 1000000000, 10000000000};
    uint64_t low, high, mid, unit = 1, bits;
    unsigned __int128 scale = 1, m2;
    int exponent, decimals, shift;

    memcpy(&bits, &v, sizeof(bits));
    if (!(v >= 1e-4 && v < 1e15) || bits << 12 == 0)
        return 0; /* below a power of two the gap is half as wide */
    exponent = (int)(bits >> 52) - 1023;
    decimals = 16 - ((exponent * 1233) >> 12); /* log10(2) is 1233 / 4096 */
    for (int i = decimals; i > 0; i -= 10)
        scale *= tens[i < 10 ? i : 10];
    m2 = 2 * ((bits & 0xfffffffffffff) | 0x10000000000000); /* v = m2 / 2^shift */
    shift = 53 - exponent;
    low = (uint64_t)(((m2 - 1) * scale) >> shift); /* the midpoints themselves stay out */
    high = (uint64_t)(((m2 + 1) * scale - 1) >> shift);
    mid = (uint64_t)((m2 * scale) >> (shift - 1));
    for (; high / 10 > low / 10; unit *= 10, decimals--) {
        high /= 10;
        low /= 10;
    }
    mid = (mid / unit + 1) / 2;
    if (mid <= low)
        mid++;
    else if (mid > high)
        mid--;
    return put_decimal(out, mid, (unsigned)decimals);
}

size_t buf_format_number(char out[BUF_NUMBER_BYTES], double v) {
    size_t sign = v < 0, n;
    double a = fabs(v);

    if (!isfinite(v)) {
        memcpy(out, "null", 4);
        return 4;
    }
    out[0] = '-';
    /* Most of what is measured are whole numbers or nanoseconds; printf is ten to thirty times slower. */
    if (a < 9007199254740992.0 && a == (double)(uint64_t)a)
        n = put_decimal(out + sign, (uint64_t)a, 0);
    else if ((n = put_nanos(out + sign, a)) == 0)
        n = put_shortest(out + sign, a);
    for (int digits = 15; n == 0; digits++) {
        n = (size_t)snprintf(out + sign, BUF_NUMBER_BYTES - 1, "%.*g", digits, a);
        if (digits < 17 && strtod(out + sign, NULL) != a)
            n = 0;
    }
    return sign + n;
}

void buf_number(struct buf *b, double v) {
    char tmp[BUF_NUMBER_BYTES];

    buf_add(b, tmp, buf_format_number(tmp, v));
}

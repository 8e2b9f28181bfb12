#include "agent/human.h"

#include <math.h>

#include "agent/base/mem.h"

/* Three digits that count, then the unit. */
static void scaled(double v, const char *unit, char out[HUMAN_BYTES]) {
    (void)snprintf(out, HUMAN_BYTES, v < 9.95 && v != floor(v) ? "%.1f%s" : "%.0f%s", v, unit);
}

static void with_units(double v, double step, const char *const *units, size_t n,
                       char out[HUMAN_BYTES]) {
    size_t i = 0;

    if (!isfinite(v) || v < 0) {
        memcpy(out, "-", 2);
        return;
    }
    for (; i + 1 < n && v >= 999.5; i++)
        v /= step;
    if (v >= 1e5)
        v = 99999; /* nothing here is that large; the column would burst */
    if (i > 0 && v < 99.95)
        (void)snprintf(out, HUMAN_BYTES, "%.1f%s", v, units[i]);
    else
        (void)snprintf(out, HUMAN_BYTES, "%.0f%s", v, units[i]);
}

void human_bytes(double v, char out[HUMAN_BYTES]) {
    static const char *const units[] = {"B", "K", "M", "G", "T", "P"};

    with_units(v, 1024, units, ARRAY_LEN(units), out);
}

void human_number(double v, char out[HUMAN_BYTES]) {
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};

    with_units(v, 1000, units, ARRAY_LEN(units), out);
}

void human_percent(double share, char out[HUMAN_BYTES]) {
    double v = share * 100;

    if (!isfinite(v) || v < 0)
        memcpy(out, "-", 2);
    else
        (void)snprintf(out, HUMAN_BYTES, v < 9.95 ? "%.1f" : "%.0f", v < 1e6 ? v : 1e6);
}

void human_seconds(double v, char out[HUMAN_BYTES]) {
    static const struct {
        double below, unit;
        const char *name;
    } steps[] = {{1e-3, 1e-6, "us"}, {1, 1e-3, "ms"},     {99.5, 1, "s"},
                 {5970, 60, "m"},    {172800, 3600, "h"}, {INFINITY, 86400, "d"}};

    if (!isfinite(v) || v < 0) {
        memcpy(out, "-", 2);
        return;
    }
    if (v == 0) {
        memcpy(out, "0s", 3);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (v < steps[i].below || i + 1 == ARRAY_LEN(steps)) {
            scaled(fmin(v / steps[i].unit, 1e6), steps[i].name, out);
            return;
        }
}

/* One code point of UTF-8 (buf_json_string() on the other side made sure that it is valid; a
 * byte that is not is itself). */
static size_t code_point(const char *s, uint32_t *ret) {
    const unsigned char *p = (const unsigned char *)s;
    size_t n = p[0] < 0xc2 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 1;

    *ret = p[0];
    if (n == 1)
        return 1;
    *ret = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            *ret = 0xfffd;
            return 1;
        }
        *ret = *ret << 6 | (p[i] & 0x3f);
    }
    return n;
}

/* Roughly what terminals do: East Asian and picture characters are wide, marks that combine take
 * no room. */
static size_t columns(uint32_t c) {
    if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f))
        return 0;
    return (c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) ||
                   (c >= 0xac00 && c < 0xd7a4) || (c >= 0xf900 && c < 0xfb00) ||
                   (c >= 0xfe30 && c < 0xfe70) || (c >= 0xff00 && c < 0xff61) ||
                   (c >= 0x1f300 && c < 0x1faff) || (c >= 0x20000 && c < 0x3fffd)
               ? 2
               : 1;
}

/* Control characters of both sets, and those that turn the direction of writing. */
static bool harmful(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfffd;
}

size_t human_width(const char *s) {
    size_t width = 0;
    uint32_t c;

    while (*s != '\0') {
        s += code_point(s, &c);
        width += harmful(c) ? 1 : columns(c);
    }
    return width;
}

void human_cell(struct buf *out, const char *s, size_t width, bool pad, bool utf8) {
    bool whole = human_width(s) <= width;
    size_t room = whole || width == 0 ? width : width - 1, used = 0;

    while (*s != '\0') {
        uint32_t c;
        size_t n = code_point(s, &c);
        bool plain = !harmful(c) && (utf8 || c < 0x80) && !(n == 1 && c >= 0x80);
        size_t w = plain ? columns(c) : harmful(c) ? 1 : columns(c);

        if (used + w > room)
            break;
        if (plain)
            buf_add(out, s, n);
        else
            for (size_t i = 0; i < w; i++)
                buf_putc(out, '?');
        used += w;
        s += n;
    }
    if (!whole && width > 0) {
        buf_puts(out, utf8 ? "\xe2\x80\xa6" : "~");
        used++;
    }
    for (; pad && used < width; used++)
        buf_putc(out, ' ');
}

void human_title(struct buf *out, const char *s, size_t width, bool utf8) {
    const char *tail = strchr(s, ' ');
    size_t first = tail != NULL ? (size_t)(tail - s) + 1 : 0, room, n;
    uint32_t c;

    /* At least a name's worth of the end, else it is cut as everything is. */
    if (human_width(s) <= width || first == 0 || first + 8 > width) {
        human_cell(out, s, width, false, utf8);
        return;
    }
    room = width - first - 1;
    while (human_width(tail) > room)
        tail += code_point(tail, &c);
    for (size_t i = 0; i < first;
         i += n) { /* one character at a time: there is no end of string here */
        char one[5] = "";

        n = code_point(s + i, &c);
        memcpy(one, s + i, n);
        human_cell(out, one, 2, false, utf8);
    }
    buf_puts(out, utf8 ? "\xe2\x80\xa6" : "~");
    human_cell(out, tail, room, false, utf8);
}

void human_spark(struct buf *out, const double *shares, size_t n, size_t width, bool utf8) {
    static const char *const blocks[] = {"\xe2\x96\x81", "\xe2\x96\x82", "\xe2\x96\x83",
                                         "\xe2\x96\x84", "\xe2\x96\x85", "\xe2\x96\x86",
                                         "\xe2\x96\x87", "\xe2\x96\x88"};
    static const char *const ascii[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    const char *const *marks = utf8 ? blocks : ascii;

    for (size_t i = n; i < width; i++)
        buf_putc(out, ' ');
    for (size_t i = n > width ? n - width : 0; i < n; i++) {
        double v = shares[i];

        if (!isfinite(v) || v < 0)
            buf_putc(out, ' ');
        else
            buf_puts(out, marks[v >= 1 ? 7 : (int)(v * 8)]);
    }
}

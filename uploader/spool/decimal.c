#include "uploader/spool/decimal.h"

#include <ctype.h>
#include <string.h>

#define DIGITS_MOST 18

uint64_t decimal_power(unsigned n) {
    static const uint64_t tens[] = {1,
                                    10,
                                    100,
                                    1000,
                                    10000,
                                    100000,
                                    1000000,
                                    10000000,
                                    100000000,
                                    1000000000,
                                    10000000000,
                                    100000000000,
                                    1000000000000,
                                    10000000000000,
                                    100000000000000,
                                    1000000000000000,
                                    10000000000000000,
                                    100000000000000000,
                                    1000000000000000000,
                                    10000000000000000000u};

    return tens[n < 20 ? n : 19];
}

/* D.DDDe-XX, at least two digits of exponent. */
static size_t put_exponent(char *out, const char *digits, size_t n, unsigned below) {
    size_t len = 0;

    out[len++] = digits[0];
    if (n > 1) {
        out[len++] = '.';
        memcpy(out + len, digits + 1, n - 1);
        len += n - 1;
    }
    out[len++] = 'e';
    out[len++] = '-';
    out[len++] = (char)('0' + below / 10);
    out[len++] = (char)('0' + below % 10);
    return len;
}

size_t decimal_format(char out[DECIMAL_TEXT_BYTES], const struct decimal *n) {
    char tmp[32], *end = tmp + sizeof(tmp), *p = end;
    uint64_t m = n->m < 0 ? 0 - (uint64_t)n->m : (uint64_t)n->m;
    size_t digits, len = 0, whole;

    do {
        *--p = (char)('0' + m % 10);
        m /= 10;
    } while (m > 0);
    digits = (size_t)(end - p);
    if (n->m < 0)
        out[len++] = '-';
    if (n->d > DECIMAL_FULL && n->d > digits + 3)
        return len + put_exponent(out + len, p, digits, n->d + 1 - (unsigned)digits);
    if (n->d >= digits) {
        out[len++] = '0';
        out[len++] = '.';
        memset(out + len, '0', n->d - digits);
        len += n->d - digits;
        memcpy(out + len, p, digits);
        return len + digits;
    }
    whole = digits - n->d;
    memcpy(out + len, p, whole);
    len += whole;
    if (n->d > 0) {
        out[len++] = '.';
        memcpy(out + len, p + whole, n->d);
        len += n->d;
    }
    return len;
}

/* Digits, one point at most; false with more digits than fit. */
static bool take_digits(struct decimal *ret, const char **p, const char *end) {
    bool point = false;
    unsigned digits = 0;

    for (; *p < end; ++*p) {
        if (**p == '.' && !point) {
            point = true;
            continue;
        }
        if (!isdigit((unsigned char)**p))
            break;
        if (digits == DIGITS_MOST)
            return false;
        ret->m = ret->m * 10 + (**p - '0');
        ret->d += point;
        digits += ret->m != 0;
    }
    return true;
}

bool decimal_parse(struct decimal *ret, const char *text, size_t len) {
    const char *p = text, *end = text + len;
    char again[DECIMAL_TEXT_BYTES];
    bool negative = len > 0 && *p == '-';

    *ret = (struct decimal){0};
    p += negative;
    if (len >= sizeof(again) || !take_digits(ret, &p, end))
        return false;
    if (end - p == 4 && p[0] == 'e' && p[1] == '-' && isdigit((unsigned char)p[2]) &&
        isdigit((unsigned char)p[3])) {
        ret->d += (unsigned)(10 * (p[2] - '0') + (p[3] - '0'));
        p = end;
    }
    if (negative)
        ret->m = -ret->m;
    if (p != end || ret->d > DECIMAL_PLACES || (ret->d > 0 && ret->m % 10 == 0))
        return false;
    return decimal_format(again, ret) == len && memcmp(again, text, len) == 0;
}

int64_t decimal_at(const struct decimal *n, unsigned places) {
    int64_t unit, half;

    if (n->d <= places)
        return (int64_t)((uint64_t)n->m * decimal_power(places - n->d));
    if (n->d - places > DIGITS_MOST)
        return 0;
    unit = (int64_t)decimal_power(n->d - places);
    half = n->m < 0 ? -unit / 2 : unit / 2;
    return (n->m + half) / unit;
}

bool decimal_fits(const struct decimal *n, unsigned places) {
    uint64_t m = n->m < 0 ? 0 - (uint64_t)n->m : (uint64_t)n->m;

    return n->d >= places || m < DECIMAL_M_END / decimal_power(places - n->d);
}

#include "uploader/spool/iso.h"

#include <ctype.h>
#include <string.h>

#define DAY_MS 86400000

static const char pattern[] = "0000-00-00T00:00:00.000Z";

/* Days since 1970 of a day of the proleptic Gregorian calendar; years count from March. */
static int64_t days_of(int64_t year, unsigned month, unsigned day) {
    int64_t y = year - (month <= 2), era = y / 400;
    unsigned of_era = (unsigned)(y - era * 400),
             of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void put(char *out, uint64_t v, unsigned digits) {
    while (digits > 0) {
        out[--digits] = (char)('0' + v % 10);
        v /= 10;
    }
}

size_t iso_format(char out[ISO_BYTES], int64_t ms) {
    uint64_t t = ms < 0 ? 0 : (uint64_t)ms % ((uint64_t)DAY_MS * 2932896),
             day = t / DAY_MS + 719468, era = day / 146097, of_era = day % 146097,
             year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365,
             of_year = of_era - (365 * year + year / 4 - year / 100),
             month = (5 * of_year + 2) / 153;

    t %= DAY_MS;
    memcpy(out, pattern, sizeof(pattern) - 1);
    put(out, year + era * 400 + (month >= 10), 4);
    put(out + 5, month < 10 ? month + 3 : month - 9, 2);
    put(out + 8, of_year - (153 * month + 2) / 5 + 1, 2);
    put(out + 11, t / 3600000, 2);
    put(out + 14, t / 60000 % 60, 2);
    put(out + 17, t / 1000 % 60, 2);
    put(out + 20, t % 1000, 3);
    return sizeof(pattern) - 1;
}

static unsigned get(const char *p, unsigned digits) {
    unsigned v = 0;

    for (unsigned i = 0; i < digits; i++)
        v = v * 10 + (unsigned)(p[i] - '0');
    return v;
}

bool iso_parse(int64_t *ret_ms, const char *text, size_t len) {
    char again[ISO_BYTES];
    unsigned month;

    if (len != sizeof(pattern) - 1)
        return false;
    for (size_t i = 0; i < len; i++)
        if (pattern[i] == '0' ? !isdigit((unsigned char)text[i]) : text[i] != pattern[i])
            return false;
    month = get(text + 5, 2);
    if (get(text, 4) < 1970 || month < 1 || month > 12)
        return false;
    *ret_ms = days_of(get(text, 4), month, get(text + 8, 2)) * DAY_MS +
              get(text + 11, 2) * 3600000LL + get(text + 14, 2) * 60000LL +
              get(text + 17, 2) * 1000LL + get(text + 20, 3);
    return *ret_ms >= 0 && memcmp(again, text, iso_format(again, *ret_ms)) == 0;
}

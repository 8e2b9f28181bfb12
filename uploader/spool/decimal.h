/* decimal.h - the number of a record as its digits say it: m × 10^-d, without any floating point, so that the text
 * comes back as it was. Memory only; any thread. */
#ifndef PILLION_SPOOL_DECIMAL_H
#define PILLION_SPOOL_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECIMAL_TEXT_BYTES 48
#define DECIMAL_PLACES     24
#define DECIMAL_M_END      1000000000000000000 /* |m| is below 10^18 */
/* Up to here small numbers are written in full (0.000000001), beyond as 1.5e-12: as buf_format_number() does. */
#define DECIMAL_FULL 9

struct decimal {
    int64_t m;
    unsigned d; /* digits behind the point; without a zero at the end */
};

/* False when decimal_format() would not write just this text. */
bool decimal_parse(struct decimal *ret, const char *text, size_t len);
/* Its length; not terminated. */
size_t decimal_format(char out[DECIMAL_TEXT_BYTES], const struct decimal *n);
/* m at `places` digits behind the point; of digits beyond, rounded. Wraps: for a guess. */
int64_t decimal_at(const struct decimal *n, unsigned places);
bool decimal_fits(const struct decimal *n, unsigned places);
/* 10^n, n up to 19. */
uint64_t decimal_power(unsigned n);

#endif

/* text.h - numbers, durations and sizes as people write them, and what they may have meant. */
#ifndef PILLION_TEXT_H
#define PILLION_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each takes the whole string or returns -EINVAL; -ERANGE when it does not fit. *ret is written only on success. */
int text_u64(const char *s, uint64_t *ret); /* decimal digits only */
int text_duration_ms(const char *s,
                     uint64_t *ret_ms); /* 500ms 10s 5m 24h 7d; a unit is required, except for 0 */
int text_size_bytes(const char *s,
                    uint64_t *ret); /* 512 64KiB 1MiB 2GiB; also KB MB GB (decimal) and B */
int text_percent(const char *s, double *ret_share); /* 90% -> 0.9; 0 to 100 */

/* The shortest way to write it: 90000 -> "90s". */
void text_format_duration(uint64_t ms, char *out, size_t size);
void text_format_size(uint64_t bytes, char *out, size_t size);

/* Edit distance (insert, delete, replace, swap of neighbours), letters compared without case; strings beyond 63 bytes: SIZE_MAX. */
size_t text_distance(const char *a, const char *b);

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), or 0. p is NUL-terminated. */
size_t text_utf8_len(const unsigned char *p);

/* Copies `s` for people: what could be a secret in a URL (user and password, the query) becomes "***", control characters and
 * bytes beyond ASCII that are not UTF-8 become '?', what does not fit is cut and ends in "...". Always terminated. */
void text_show(char *out, size_t size, const char *s);

bool text_starts(const char *s, const char *prefix);
/* Copies, cut to fit, always terminated; returns false when it was cut. */
bool text_copy(char *out, size_t size, const char *s);

#endif

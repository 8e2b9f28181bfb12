/* iso.h - times as records have them: 2026-11-23T18:31:09.017Z, and back. Any thread. */
#ifndef PILLION_SPOOL_ISO_H
#define PILLION_SPOOL_ISO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISO_BYTES 25

/* ms since 1970, UTC; false when iso_format() would not write just this text. */
bool iso_parse(int64_t *ret_ms, const char *text, size_t len);
/* Not terminated; returns the length, 24. Any number gives some text. */
size_t iso_format(char out[ISO_BYTES], int64_t ms);

#endif

/* clock.h - the three clocks. Intervals are measured with clock_mono_*; wall time goes into records only. */
#ifndef PILLION_CLOCK_H
#define PILLION_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define CLOCK_ISO_BYTES 25 /* "2026-11-23T14:19:56.123Z" and its NUL */

uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC: does not run while the machine is suspended */
uint64_t clock_mono_ms(void);
uint64_t clock_boot_ms(void); /* CLOCK_BOOTTIME: runs on while suspended */
int64_t clock_wall_ms(void);  /* Unix time, milliseconds */

/* UTC, RFC 3339, milliseconds. Always writes a terminated string; years beyond 9999 are clamped. */
void clock_iso(int64_t wall_ms, char out[CLOCK_ISO_BYTES]);

#endif

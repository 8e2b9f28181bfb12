/* Signatures of requests: no header but one that was made with the token is taken. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "uploader/sign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), why[SIGN_WHY_BYTES] = "";
    struct buf b;

    memcpy(text, data, size);
    text[size] = '\0';
    assert(sign_check(text, "token", 1700000000, "POST", "/", data, size, why) != 0 &&
           why[0] != '\0');
    buf_init(&b, 256);
    assert(sign_make(&b, "token", 1700000000, "POST", "/", data, size) == 0);
    assert(sign_check(b.data, "token", 1700000000, "POST", "/", data, size, why) == 0);
    buf_clear(&b);
    free(text);
    return 0;
}

/* out.h - what a writer writes: a descriptor behind one buffer, if wanted through gzip. Errors stick; out_close() tells. */
#ifndef PILLION_FLAMEGRAPH_OUT_H
#define PILLION_FLAMEGRAPH_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct out;

int out_new(struct out **ret, int fd, bool gzip);
/* Writes what is left and frees; 0 or the first error (errno of write(2), -ENOMEM). The descriptor stays open. */
int out_close(struct out *o);

void out_add(struct out *o, const void *p, size_t n);
void out_puts(struct out *o, const char *s);
void out_putc(struct out *o, char c);
void out_printf(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void out_u64(struct out *o, uint64_t v);
/* HTML and XML text and attributes. */
void out_escaped(struct out *o, const char *s);
/* With its quotes; `s` is UTF-8 without control characters (names.h). */
void out_json(struct out *o, const char *s);

/* Between the two, all that is added leaves as base64. */
void out_base64_begin(struct out *o);
void out_base64_end(struct out *o);
/* LEB128, as protobuf has it. */
void out_varint(struct out *o, uint64_t v);

#endif

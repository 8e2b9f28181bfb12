/* embed.h - files that the program carries. The assembler takes them as they are: no generator, no copy in the repository.
 *
 *     EMBED(page_css, PART("collectors/flamegraph/page/page.css"));
 *
 * makes page_css[] and page_css_len, which are to be declared `extern const char []` and `extern const size_t`. A byte of 0 follows.
 * `make` must be told that the object depends on the files. */
#ifndef PILLION_EMBED_H
#define PILLION_EMBED_H

#include <stddef.h>

#define PART(path) ".incbin \"" path "\"\n"
#define EMBED(name, parts)                                                                         \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 8\n"                                                                          \
            ".global " #name "\n" #name ":\n" parts #name "_end:\n"                                \
            ".byte 0\n"                                                                            \
            ".balign 8\n"                                                                          \
            ".global " #name "_len\n" #name "_len:\n"                                              \
            ".quad " #name "_end - " #name "\n"                                                    \
            ".popsection\n")

_Static_assert(sizeof(size_t) == 8, "the length is written as a quad");

#endif

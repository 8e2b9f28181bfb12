#include "agent/embedded.h"

/* The assembler takes the files as they are: no generator, no copy in the repository. `make` knows that this file depends on them. */
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

EMBED(embedded_preload_js, PART("collectors/node/identity.js") PART("collectors/node/sampler.js")
                               PART("collectors/node/preload.js"));
EMBED(embedded_master_js, PART("agent/init/master.js"));

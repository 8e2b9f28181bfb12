/* relro.c - musl's start-up code for a static-pie leaves the section that RELRO protects writable (a dynamic linker would have
 * closed it). It is closed here, before main. Nothing of it is in a dynamic build. */
#ifdef PILLION_STATIC

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/base/banned.h"

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden"))); /* by the linker */

__attribute__((constructor)) static void close_relro(void) {
    const ElfW(Phdr) *ph = (const void *)getauxval(AT_PHDR);
    uintptr_t base = (uintptr_t)&__ehdr_start, page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (unsigned long n = ph ? getauxval(AT_PHNUM) : 0; n > 0; n--, ph++) {
        if (ph->p_type != PT_GNU_RELRO)
            continue;
        uintptr_t from = (base + ph->p_vaddr) & ~(page - 1);
        uintptr_t to = (base + ph->p_vaddr + ph->p_memsz) & ~(page - 1);
        /* A kernel that refuses leaves things as they were: the program works all the same. */
        (void)mprotect((void *)from, to - from, PROT_READ);
    }
}

#endif

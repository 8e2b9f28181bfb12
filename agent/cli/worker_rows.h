/* worker_rows.h - the page /workers?history=1 as rows of the table. */
#ifndef PILLION_CLI_WORKER_ROWS_H
#define PILLION_CLI_WORKER_ROWS_H

#include <jansson.h>

#include "agent/rows.h"

/* `page` is the parsed page. *ret (mem_free) has *ret_n rows, NULL when there are none. -ENOMEM. */
int worker_rows(const json_t *page, struct row **ret, size_t *ret_n);

#endif

/* status_text.h - the page `/`: a short overview for people. */
#ifndef PILLION_STATUS_TEXT_H
#define PILLION_STATUS_TEXT_H

#include "agent/base/buf.h"

struct status;

void status_text(const struct status *s, struct buf *out);

#endif

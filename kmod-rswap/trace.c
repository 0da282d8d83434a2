// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The tracepoints' code; everybody else only declares them. */
#define CREATE_TRACE_POINTS
#include "trace.h"

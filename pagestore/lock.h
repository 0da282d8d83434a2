/* SPDX-License-Identifier: MIT */
/* Moved to common/. */
#include "common/lock.h"

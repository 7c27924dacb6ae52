#pragma once
#include "repository/repository.h"

/* Points of one guest by rising sequence: sets the damage of each that cannot be whole. */
void damage_look (GPtrArray *points);
void damage_look_at_one (Point *point);
/* Adds those whose documents cannot be read, as points that have a name and a damage only. */
gboolean damage_add_unreadable (Repository *repository, const char *guest_uuid, GPtrArray *points,
                                GError **error);
/* FALSE: it is one of those. */
gboolean damage_refuse (const Point *point, GError **error);

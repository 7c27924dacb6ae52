/* What several commands say of a guest. */
#pragma once
#include "baksh.h"

const char *state_name (int state); /* as virsh: "running", "shut off" */
JsonObject *domain_to_json (BakDomain *domain, int state);

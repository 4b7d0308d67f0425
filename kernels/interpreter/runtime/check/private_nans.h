// Private variables that were read before they were assigned, by what came out.
#pragma once

void find_private_nans();

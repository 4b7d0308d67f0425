"""How weights are rounded to fewer bits: recipes, error feedback (GPTQ), calibration on clips."""

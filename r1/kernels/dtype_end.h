// After the templates of one dtype.
#undef NAME
#undef SCALAR
#undef STEP
#undef STEP_WIDTH
#undef STEP_VECTOR

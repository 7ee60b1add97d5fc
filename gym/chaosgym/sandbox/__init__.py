"""Where applications run and can be broken for real."""

"""Extra links of the DSS operators."""

"""Define specs: frozen dataclasses that describe what a stage does and check their own values.

A spec is plain data, such as strings and numbers, so it can be written as JSON, compared and passed on a command line.
`halobench.core.specs.codec` reads and writes specs. A spec's canonical form omits values that equal their defaults, so
a new option with a default doesn't change the canonical form of any old spec. Never change a released default: results
computed with the old default would not be recomputed. docs/configuration.md is generated from the fields' descriptions.
"""

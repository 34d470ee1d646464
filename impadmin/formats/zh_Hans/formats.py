"""Numbers in groups of three, as Unicode CLDR has it for zh and as browsers write them."""

THOUSAND_SEPARATOR = ','
NUMBER_GROUPING = 3

"""Pictures and masks in; a `Dataset`, its decoded pixels and its splits out."""

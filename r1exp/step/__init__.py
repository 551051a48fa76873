"""The frozen step: what the parent decided and the workers carry out."""

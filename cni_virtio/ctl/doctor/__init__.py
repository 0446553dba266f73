"""`cni-virtioctl doctor`: what is wrong with this node, why it matters, and what mends it.

It looks and changes nothing. Each family of checks is a module with a list `CHECKS`; a check is a
function from the `Patient` to its findings.
"""

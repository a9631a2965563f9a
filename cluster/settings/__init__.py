"""The sections of the settings tree; :mod:`cluster.config` puts them together."""

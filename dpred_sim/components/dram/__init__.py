"""DRAM channels: standards as data, address mappings, timing models at four levels of detail."""

"""DRAM channels: standards as data, address mappings, timing models at four levels of detail."""

from dpred_sim.components.dram import channel as channel  # registers the component kind

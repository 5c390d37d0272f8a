//! Networks of containers: Linux bridges, veth pairs, network namespaces, nftables.

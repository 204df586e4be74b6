"""The gateway: one TCP port for gRPC, gRPC-Web and JSON, made by Envoy from the contract's descriptors."""

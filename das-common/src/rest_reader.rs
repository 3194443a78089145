//! Reading batches from REST endpoints.

//! The client: a sans-IO machine that finds the cluster, routes and retries, and a blocking one on top.

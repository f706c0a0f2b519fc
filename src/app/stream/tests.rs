//! Tests of the application's side: the test plays the worker.

"""Who vouches for a table: its signature, licence and citation, and what `hwprof lut verify` says."""

"""What is checked of a table's file before anything is read from it: tables come from strangers."""

"""Other projects' libraries, each run by an interpreter that can import it: these modules import nothing of Restock."""

"""One engine for every task: MMEngine's Runner, with data that resumes and runs that are kept."""

"""One tree of settings: flags over environment over file over defaults."""

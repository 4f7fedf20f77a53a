"""What knows nothing of products or damage, measured beside a bundle: is the data set too easy?"""

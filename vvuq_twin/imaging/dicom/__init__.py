"""DICOM: a hospital's export as volumes with their acquisition, and volumes as DICOM again."""
